/* The parent's side of a spawn: clone, id maps, and the wait until the program runs and has spoken. */
#ifndef PYBENCH_SPAWN_PARENT_H
#define PYBENCH_SPAWN_PARENT_H

#include "child.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STACK_SIZE (64 * 1024) /* the child's deepest frame is well below 16 KiB */
#define WATCHED_MAX 4
#define MAP_COMMANDS 2
#define MAP_ARGUMENTS 64

/* What is turned into C before any clock starts. */
struct prepared {
    struct step *steps;
    int step_count;
    const char *path;
    char **arguments;
    char **environment;
    void *stack;
    struct child *child; /* in memory that a child shares even if it has a copy of all the rest */
};

struct request {
    const struct prepared *program;
    uint64_t flags;
    int cgroup;
    int processes; /* /proc, opened ahead: there may be none in the mount namespace to be cloned in */
    int slots[SLOTS];
    const char *uid_map, *gid_map, *time_offsets;
    bool deny_setgroups;
    char *map_command[MAP_COMMANDS][MAP_ARGUMENTS]; /* a NULL argument in front: no command */
    int watched[WATCHED_MAX];
    int watched_count;
    int awaited; /* how many of them, from the first, must have spoken before spawn returns */
    int cancel;  /* becomes readable when nobody wants the result any more; -1: never */
    bool detached;      /* the child has a copy of our memory, and may outlive us */
    /* Called with the pid while the child waits for the go-ahead; or NULL. Returns less than 0 to give up. */
    int (*on_clone)(void *context, pid_t pid);
    void *context;
    int listener, supervisor; /* see take_listener; -1: the child's filter has none */
    int64_t timeout;
};

struct outcome {
    pid_t pid;
    int pidfd;
    bool sharing; /* the child runs on our memory */
    int64_t requested_at, cloned_at, maps_seen_at, execve_at, executed_at;
    int64_t watched_at[WATCHED_MAX];
    int failed_step;  /* -1: none; step_count: execve; -2: the parent's own part; -3: it was killed */
    int failed_errno;
    const char *failed_call; /* of the parent's own part */
};

void spawn_child(const struct request *request, struct outcome *outcome);

#endif
