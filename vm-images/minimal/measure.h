/* What the parts of `measure` share; see measure.c. */
#ifndef PYBENCH_MEASURE_H
#define PYBENCH_MEASURE_H

#include <stddef.h>
#include <stdint.h>

enum { EXIT_USAGE = 64 };

/* What the command line says; what a kind does not need it ignores. */
struct options {
    uint64_t milliseconds; /* of all measured batches together */
    uint64_t batches;      /* about so many */
    uint64_t size;         /* bytes of the buffer or file */
    uint64_t limit;        /* of a limit that is tried: bytes, or processes */
    const char *directory; /* where the file is made */
    const char *address;   /* of the server; NULL: one of our own on the loopback interface */
    uint16_t port;
};

/*
 * One kind of work. `run` does so many operations and returns a checksum of all that it read or
 * computed, which is printed, so that no compiler may leave the work out.
 */
struct kind {
    const char *name;
    uint64_t amount; /* per operation, in the unit of the kind: bytes, calls, switches … */
    void (*set_up)(const struct options *options);
    uint64_t (*run)(uint64_t operations);
    void (*tear_down)(void);
    int timed; /* each operation is timed, by `record_latency` */
};

extern const struct kind processor_kinds[], memory_kinds[], kernel_kinds[], file_kinds[], network_kinds[];
extern const struct kind latency_kinds[];

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now(void);

/* Says which call failed on what, by errno, and ends the process. */
_Noreturn void fail(const char *call, const char *subject);

/* Adds the duration of one operation, in nanoseconds, to the distribution that is printed. */
void record_latency(uint64_t nanoseconds);

/* `size` bytes that cannot be compressed or merged with others, all of them touched; aligned to a page. */
void *filled_buffer(size_t size);

/* The next of a sequence of 64-bit numbers: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). */
uint64_t next_random(uint64_t *state);

/* Serves echoes and streams on a port until it is told to stop; see measure_network.c. */
_Noreturn void serve(const struct options *options);

/* Each prints one line about how far it got; see measure_limit.c. */
void try_processor(const struct options *options);
void try_memory(const struct options *options);
void try_processes(const struct options *options);

#endif
