/* What the host asks of a live guest, and the process that does it. */
#ifndef PYBENCH_REQUEST_H
#define PYBENCH_REQUEST_H

#include <stddef.h>
#include <sys/ioctl.h>

/* One request, its fields pointing into its text. */
struct request {
    int terminal;         /* a terminal instead of three pipes */
    int privileged;       /* as init instead of as the workload */
    const char *action;   /* `run`, `read` a file, `write` one */
    const char *directory;
    struct winsize size;
    char **arguments;
    char **environment;
};

/* Reads the fields of `text`, which ends with a zero byte at `length`; -1 if they make no request. */
int parse_request(char *text, size_t length, struct request *request);

/*
 * In the child: do what is asked on the three streams. Until it has begun, a failure is told through the
 * close-on-exec descriptor `gate`; that it has begun shows as the end of `gate` with nothing in it.
 */
_Noreturn void become_command(const struct request *request, const int streams[3], int gate);

#endif
