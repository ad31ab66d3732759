/* Steps about the process itself: what it joins, its terminal, its program, and when it may go on. */
#ifndef PYBENCH_SPAWN_PROCESS_H
#define PYBENCH_SPAWN_PROCESS_H

#include "child.h"

int join_namespaces(struct child *child, const struct step *step);
int open_console(struct child *child, const struct step *step);
int find_program(struct child *child, const struct step *step);
int wait_for_start(struct child *child, const struct step *step);
int run_hook(const struct child *child, const struct step *step);
int make_call(const struct step *step);

/* Hands a descriptor to whoever holds the other end of a socket, with a name or an empty one. */
int send_descriptor(int socket, int descriptor, const char *name, int flags);

/* Tells whoever started the container of a failure after wait_for_start. */
void report_failure(const struct child *child);

#endif
