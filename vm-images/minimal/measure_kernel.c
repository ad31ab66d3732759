/* What the kernel does for whoever asks it: a system call, and passing the processor on. */
#define _GNU_SOURCE
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void set_up_calls(const struct options *options)
{
    (void)options;
}

/* getppid does next to nothing, and unlike getpid no library answers it from memory. */
static uint64_t run_calls(uint64_t operations)
{
    uint64_t checksum = 0;
    while (operations-- > 0)
        checksum += (uint64_t)syscall(SYS_getppid);
    return checksum;
}

static int to_partner[2], from_partner[2];
static pid_t partner;

/* A byte goes round between two processes on one processor, as in lmbench's lat_ctx (McVoy, Staelin 1996). */
static void set_up_switches(const struct options *options)
{
    (void)options;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0)
        fail("sched_setaffinity", "to one processor");
    if (pipe2(to_partner, O_CLOEXEC) != 0 || pipe2(from_partner, O_CLOEXEC) != 0)
        fail("pipe2", "to the partner");
    pid_t parent = getpid();
    partner = fork();
    if (partner < 0)
        fail("fork", "the partner");
    if (partner > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    close(to_partner[1]);
    close(from_partner[0]);
    char token;
    while (read(to_partner[0], &token, 1) == 1)
        if (write(from_partner[1], &token, 1) != 1)
            _exit(1);
    _exit(0);
}

static uint64_t run_switches(uint64_t operations)
{
    uint64_t checksum = 0;
    char token = 1;
    while (operations-- > 0) {
        if (write(to_partner[1], &token, 1) != 1 || read(from_partner[0], &token, 1) != 1)
            fail("read", "the partner's answer");
        checksum += (uint64_t)token;
    }
    return checksum;
}

static void end_partner(void)
{
    close(to_partner[1]);
    while (waitpid(partner, NULL, 0) < 0 && errno == EINTR)
        ;
}

const struct kind kernel_kinds[] = {
    {"syscall", 1, set_up_calls, run_calls, NULL, 0},
    /* There and back. */
    {"switch", 2, set_up_switches, run_switches, end_partner, 0},
    {0},
};
