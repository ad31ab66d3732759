/* A thread pushes the time of day through a pipe; the reader notes how late it hears of it. */
#define _GNU_SOURCE
#include "pipe_latency.h"

#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define PUSH_SPACING 200000 /* ns: long enough for the reader to be asleep again */

struct pusher {
    int pipe;
    int rounds;
};

static void *push_instants(void *argument)
{
    struct pusher *pusher = argument;
    const struct timespec pause = {0, PUSH_SPACING};
    for (int i = 0; i < pusher->rounds; i++) {
        nanosleep(&pause, NULL);
        int64_t now = monotonic_ns();
        if (write(pusher->pipe, &now, sizeof(now)) != sizeof(now))
            break;
    }
    close(pusher->pipe);
    return NULL;
}

int measure_pipe_latencies(int rounds, int64_t *latencies)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    struct pusher pusher = {.pipe = ends[1], .rounds = rounds};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, push_instants, &pusher);
    if (error) {
        close(ends[0]);
        close(ends[1]);
        errno = error;
        return -1;
    }
    int count = 0;
    for (;;) {
        struct pollfd polled = {.fd = ends[0], .events = POLLIN};
        int64_t pushed_at;
        if (poll(&polled, 1, -1) < 0)
            continue;
        int64_t now = monotonic_ns();
        if (read(ends[0], &pushed_at, sizeof(pushed_at)) != sizeof(pushed_at))
            break;
        latencies[count++] = now - pushed_at;
    }
    pthread_join(thread, NULL);
    close(ends[0]);
    return count;
}
