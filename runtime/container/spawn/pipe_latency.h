/* How long a mark pushed through a pipe takes to be seen. */
#ifndef PYBENCH_PIPE_LATENCY_H
#define PYBENCH_PIPE_LATENCY_H

#include <stdint.h>

/* Fills `latencies` (ns) with one value per round and returns how many, or -1 with errno set. */
int measure_pipe_latencies(int rounds, int64_t *latencies);

#endif
