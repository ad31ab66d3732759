/* Goes up to a limit, and says how far it got. What is tried runs in children, so that it may be killed. */
#define _GNU_SOURCE
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, BEATS = 10000, MOST_WORKERS = 64, MOST_CHILDREN = 100000 };

#define MILLISECOND UINT64_C(1000000)

static void begin(void)
{
    puts("begin");
    fflush(stdout);
}

/* A child that dies with its parent; in the parent its pid, or -1 and errno. */
static pid_t fork_child(void)
{
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(0);
    }
    return child;
}

static int wait_for(pid_t child, struct rusage *usage)
{
    int status = 0;
    while (wait4(child, &status, 0, usage) < 0)
        if (errno != EINTR)
            fail("wait4", "a child");
    return status;
}

static uint64_t nanoseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000 * MILLISECOND + (uint64_t)time.tv_usec * 1000;
}

static void work_until(uint64_t end)
{
    volatile uint64_t state = 1;
    while (now() < end)
        for (int beat = 0; beat < BEATS; beat++)
            state = state * UINT64_C(6364136223846793005) + 1;
}

/* `--limit` workers, each of which wants a processor all the time. */
void try_processor(const struct options *options)
{
    pid_t workers[MOST_WORKERS];
    uint64_t count = options->limit ? options->limit : 1, used = 0;
    if (count > MOST_WORKERS) {
        errno = EINVAL;
        fail("--limit", "is more than 64 workers");
    }
    begin();
    uint64_t began = now(), end = began + options->milliseconds * MILLISECOND;
    for (uint64_t worker = 0; worker < count; worker++) {
        workers[worker] = fork_child();
        if (workers[worker] < 0)
            fail("fork", "a worker");
        if (workers[worker] == 0) {
            work_until(end);
            _exit(0);
        }
    }
    for (uint64_t worker = 0; worker < count; worker++) {
        struct rusage usage;
        if (wait_for(workers[worker], &usage) != 0)
            fail("wait4", "a worker that ended otherwise than by itself");
        used += nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
    }
    printf("{\"kind\":\"limit.processor\",\"span\":%" PRIu64 ",\"workers\":%" PRIu64 ",\"used\":%" PRIu64 "}\n",
           now() - began, count, used);
}

/* Whoever runs out of memory, it is to be the child. */
static void volunteer(void)
{
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0 && write(file, "1000", 4) != 4)
        fail("write", "/proc/self/oom_score_adj");
    if (file >= 0)
        close(file);
}

/* Touches one page after the other, up to `--limit` bytes. */
void try_memory(const struct options *options)
{
    volatile uint64_t *reached = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (reached == MAP_FAILED)
        fail("mmap", "a page to count in");
    begin();
    uint64_t began = now();
    pid_t child = fork_child();
    if (child < 0)
        fail("fork", "a child");
    if (child == 0) {
        volunteer();
        size_t size = options->limit;
        uint64_t state = size;
        unsigned char *memory =
            mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            _exit(1);
        for (size_t offset = 0; offset + PAGE <= size; offset += PAGE) {
            uint64_t value = next_random(&state);
            memcpy(memory + offset, &value, sizeof value);
            *reached = offset + PAGE;
        }
        _exit(0);
    }
    struct rusage usage;
    int status = wait_for(child, &usage);
    const char *ending = status == 0 ? "complete" : WIFSIGNALED(status) ? "killed" : "refused";
    printf("{\"kind\":\"limit.memory\",\"span\":%" PRIu64 ",\"reached\":%" PRIu64 ",\"ending\":\"%s\"}\n", now() - began,
           *reached, ending);
}

/* Starts processes that wait, up to `--limit`; they end with the pipe that they read from. */
void try_processes(const struct options *options)
{
    int held[2];
    uint64_t count = 0;
    int refused = 0;
    if (options->limit > MOST_CHILDREN) {
        errno = EINVAL;
        fail("--limit", "is more than 100000 processes");
    }
    if (pipe2(held, O_CLOEXEC) != 0)
        fail("pipe2", "for the children");
    begin();
    uint64_t began = now();
    while (count < options->limit && !refused) {
        pid_t child = fork_child();
        if (child == 0) {
            char byte;
            close(held[1]);
            while (read(held[0], &byte, 1) < 0 && errno == EINTR)
                ;
            _exit(0);
        }
        if (child > 0)
            count++;
        else if (errno == EAGAIN)
            refused = 1;
        else
            fail("fork", "a child");
    }
    close(held[1]);
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    printf("{\"kind\":\"limit.processes\",\"span\":%" PRIu64 ",\"reached\":%" PRIu64 ",\"ending\":\"%s\"}\n",
           now() - began, count, refused ? "refused" : "complete");
}
