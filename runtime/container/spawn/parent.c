#define _GNU_SOURCE
#include "parent.h"

#include "listener.h"
#include "shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIXED 3 /* polled besides the watched ones: the link, the child, the cancellation */

static void stop_sharing(struct outcome *outcome)
{
    if (outcome->sharing)
        stop_sharing_memory();
    outcome->sharing = false;
}

static int write_proc(const struct request *request, pid_t pid, const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
    int file = openat(request->processes, path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t written = write(file, text, strlen(text));
    int error = errno;
    close(file);
    errno = error;
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

/* newuidmap and newgidmap: how an ordinary user gets a range of ids (their second argument is the pid). */
static int run_map_command(char **command, pid_t pid)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", (int)pid);
    command[1] = number;
    char *no_environment[] = {NULL};
    pid_t helper;
    int error = posix_spawn(&helper, command[0], NULL, NULL, command, no_environment);
    command[1] = NULL;
    if (error) {
        errno = error;
        return -1;
    }
    int status;
    while (waitpid(helper, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    if (status != 0) {
        errno = EPERM;
        return -1;
    }
    return 0;
}

static const char *write_maps(const struct request *request, pid_t pid)
{
    if (request->time_offsets && write_proc(request, pid, "timens_offsets", request->time_offsets) < 0)
        return "write /proc/<pid>/timens_offsets";
    if (request->deny_setgroups && write_proc(request, pid, "setgroups", "deny") < 0)
        return "write /proc/<pid>/setgroups";
    if (request->uid_map && write_proc(request, pid, "uid_map", request->uid_map) < 0)
        return "write /proc/<pid>/uid_map";
    if (request->gid_map && write_proc(request, pid, "gid_map", request->gid_map) < 0)
        return "write /proc/<pid>/gid_map";
    for (int i = 0; i < MAP_COMMANDS; i++)
        if (request->map_command[i][0] && run_map_command((char **)request->map_command[i], pid) < 0)
            return request->map_command[i][0];
    return NULL;
}

static bool all_awaited(const struct request *request, const struct outcome *outcome)
{
    for (int i = 0; i < request->awaited; i++)
        if (!outcome->watched_at[i])
            return false;
    return true;
}

static void fail_in_parent(struct outcome *outcome, const char *call)
{
    outcome->failed_step = -2;
    outcome->failed_errno = errno;
    outcome->failed_call = call;
}

/* Wait for execve (the link closes) and for the first byte on each awaited descriptor. */
static void watch(const struct request *request, struct outcome *outcome, int link)
{
    int64_t deadline = outcome->requested_at + request->timeout;
    bool ended = false;
    while (outcome->failed_step == -1 &&
           (!outcome->executed_at || (!ended && !all_awaited(request, outcome)))) {
        if (request->detached && request->awaited > 0 && all_awaited(request, outcome))
            return; /* it waits to be started */
        struct pollfd polled[FIXED + WATCHED_MAX];
        /* No events: its closing is told all the same, and a listener sent on it wakes nobody. */
        polled[0] = (struct pollfd){.fd = outcome->executed_at ? -1 : link};
        polled[1] = (struct pollfd){.fd = outcome->executed_at ? outcome->pidfd : -1, .events = POLLIN};
        polled[2] = (struct pollfd){.fd = request->cancel, .events = POLLIN};
        for (int i = 0; i < request->watched_count; i++)
            polled[FIXED + i] = (struct pollfd){.fd = outcome->watched_at[i] ? -1 : request->watched[i],
                                                .events = POLLIN};
        int64_t left = deadline - monotonic_ns();
        if (left <= 0)
            return;
        struct timespec patience = {left / 1000000000, left % 1000000000};
        int ready = ppoll(polled, FIXED + (nfds_t)request->watched_count, &patience, NULL);
        int64_t now = monotonic_ns();
        if (ready <= 0)
            continue;
        /* A descriptor that only hangs up has not spoken, but there is nothing to wait for either. */
        for (int i = 0; i < request->watched_count; i++)
            if (polled[FIXED + i].revents)
                outcome->watched_at[i] = polled[FIXED + i].revents & POLLIN ? now : -now;
        if (polled[0].revents) {
            outcome->executed_at = now;
            stop_sharing(outcome);
            const char *failed_call =
                request->listener < 0 ? NULL : take_listener(link, request->listener, request->supervisor);
            if (failed_call)
                fail_in_parent(outcome, failed_call);
        }
        if (polled[1].revents)
            ended = true;
        if (polled[2].revents)
            return;
    }
}

static void reap(struct outcome *outcome)
{
    siginfo_t info;
    while (waitid(P_PIDFD, (id_t)outcome->pidfd, &info, WEXITED) < 0 && errno == EINTR)
        continue;
    close(outcome->pidfd);
    outcome->pidfd = -1;
}

/* A child that joined namespaces has left its work to a second one, whose parent we are as well. */
static int follow_second(struct outcome *outcome, const struct child *child)
{
    reap(outcome);
    if (child->second <= 0)
        return child->failed_step >= 0 ? 0 : (errno = ECHILD, -1);
    outcome->pid = (pid_t)child->second;
    outcome->pidfd = (int)syscall(SYS_pidfd_open, outcome->pid, 0);
    return outcome->pidfd < 0 ? -1 : 0;
}

static bool joins(const struct prepared *program)
{
    for (int i = 0; i < program->step_count; i++)
        if (program->steps[i].code == STEP_JOIN)
            return program->steps[i].number[1] & CLONE_NEWPID;
    return false;
}

static void follow_child(const struct request *request, struct outcome *outcome, struct child *child)
{
    const char *failed_call = write_maps(request, outcome->pid);
    if (failed_call)
        fail_in_parent(outcome, failed_call);
    if (!failed_call && request->on_clone && request->on_clone(request->context, outcome->pid) < 0)
        fail_in_parent(outcome, failed_call = "prepare");
    if (!failed_call && write(child->parent_link, "", 1) < 0 && errno != EPIPE)
        fail_in_parent(outcome, "write the go-ahead");
    if (outcome->failed_step == -1 && joins(request->program) && follow_second(outcome, child) < 0)
        fail_in_parent(outcome, "pidfd_open");
    if (outcome->failed_step == -1 && outcome->pidfd >= 0)
        watch(request, outcome, child->parent_link);
    bool created = request->detached && request->awaited > 0 && all_awaited(request, outcome);
    outcome->cloned_at = child->cloned_at;
    if (created) {
        outcome->maps_seen_at = child->maps_seen_at;
        return;
    }
    /* Until execve the child runs on our memory: it must be gone before that is reused. */
    if (outcome->pidfd >= 0 && (!outcome->executed_at || outcome->failed_step != -1))
        syscall(SYS_pidfd_send_signal, outcome->pidfd, SIGKILL, NULL, 0);
    if (outcome->failed_step == -1 && child->failed_step >= 0) {
        outcome->failed_step = child->failed_step;
        outcome->failed_errno = child->failed_errno;
    } else if (outcome->failed_step == -1 && (!outcome->executed_at || !child->execve_at)) {
        outcome->failed_step = -3;
        outcome->failed_errno = outcome->executed_at ? ECHILD : ETIMEDOUT;
    }
    outcome->maps_seen_at = child->maps_seen_at;
    outcome->execve_at = child->execve_at;
    if (outcome->failed_step != -1 && outcome->pidfd >= 0)
        reap(outcome);
}

void spawn_child(const struct request *request, struct outcome *outcome)
{
    outcome->requested_at = monotonic_ns();
    outcome->failed_step = -1;
    outcome->pidfd = -1;
    int link[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0) {
        fail_in_parent(outcome, "socketpair");
        return;
    }
    struct child *child = request->program->child;
    *child = (struct child){
        .steps = request->program->steps,
        .step_count = request->program->step_count,
        .path = request->program->path,
        .arguments = request->program->arguments,
        .environment = request->program->environment,
        .link = link[1],
        .parent_link = link[0],
        .report = -1,
        .failed_step = -1,
    };
    memcpy(child->slots, request->slots, sizeof(child->slots));
    struct clone_args arguments = {
        .flags = request->flags | (request->detached ? 0 : CLONE_VM) | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        .pidfd = (uint64_t)(uintptr_t)&outcome->pidfd,
        .exit_signal = SIGCHLD,
        .stack = (uint64_t)(uintptr_t)request->program->stack,
        .stack_size = STACK_SIZE,
    };
    if (request->cgroup >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)request->cgroup;
    }
    sigset_t all, before;
    sigfillset(&all);
    if (!request->detached) {
        share_memory();
        outcome->sharing = true;
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    long pid = clone_child(&arguments, child);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(link[1]);
    if (pid < 0) {
        errno = (int)-pid;
        fail_in_parent(outcome, "clone3");
    } else {
        outcome->pid = (pid_t)pid;
        follow_child(request, outcome, child);
    }
    stop_sharing(outcome);
    close(link[0]);
}
