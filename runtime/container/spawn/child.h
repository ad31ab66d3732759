/* What happens between clone3 and execve: a list of declarative steps, carried out in the child.
 *
 * The child shares the parent's memory until execve (CLONE_VM), because copying the page tables
 * of a Python interpreter costs more than the whole sandbox. So nothing here may touch libc state:
 * no errno (it is the parent thread's), no malloc, no stdio, only raw system calls.
 */
#ifndef PYBENCH_SPAWN_CHILD_H
#define PYBENCH_SPAWN_CHILD_H

#include <stdint.h>

#define STEP_NUMBERS 7
#define STEP_TEXTS 4
#define SLOTS 64
#define CALL_ARGUMENTS 5

/* Every step, with its numbers and its texts in order. A slot is an index into the table of
 * descriptors: the first ones are given to spawn(), later ones are filled by steps. */
#define STEPS(X)                                                                                   \
    X(WAIT_FOR_MAPS)      /* until the parent has written the id maps */                           \
    X(HIDE_EXECUTABLE)    /* no one without privilege over the host may look at this process */    \
    X(IDENTITY)           /* uid, gid, keep_groups; groups (gid_t[]) */                            \
    X(DEATH_SIGNAL)       /* signal when the spawning thread ends */                               \
    X(SESSION)            /* a session of its own */                                               \
    X(FILESYSTEM)         /* slot, mount attributes; type, options separated by commas */          \
    X(TREE)               /* slot, recursive; path: a detached copy of a mount */                  \
    X(ATTACH)             /* slot, enum make; path: put a detached mount there */                  \
    X(MOUNT)              /* flags of mount(2); type, options separated by commas, path */          \
    X(SLOT_ATTRIBUTES)    /* slot, set, clear, propagation, recursive */                           \
    X(ATTRIBUTES)         /* set, clear, propagation, recursive; path */                           \
    X(MASK)               /* slots of the null device and of an empty directory; path to hide */    \
    X(MASK_FROM)          /* path to hide, path of what hides it */                                \
    X(READ_ONLY)          /* flags to set; path, with what is mounted beneath */                   \
    X(DIRECTORY)          /* mode; path */                                                         \
    X(SYMLINK)            /* target, path */                                                       \
    X(PIVOT)              /* slot of the mount that becomes the root; the old one is detached */   \
    X(WORKING_DIRECTORY)  /* whether to make it; path */                                           \
    X(NODE)               /* mode with type, device, uid, gid; path */                             \
    X(WRITE)              /* path, text: into a file that is there */                              \
    X(HOST_NAME)          /* name */                                                               \
    X(LIMIT)              /* resource, soft, hard */                                               \
    X(LOOPBACK)           /* bring lo up */                                                        \
    X(KEYRING)            /* join a new, anonymous session keyring */                              \
    X(BOUNDING)           /* capabilities to keep within reach: a bit set */                       \
    X(CAPABILITIES)       /* effective, permitted, inheritable, ambient: bit sets */               \
    X(NO_NEW_PRIVILEGES)                                                                           \
    X(SCOPES)             /* Landlock scopes: a bit set */                                         \
    X(FILTER)             /* seccomp flags; program (struct sock_filter[]); a listener is sent */  \
    X(FILE_MODE_MASK)     /* umask */                                                              \
    X(DUPLICATE)          /* slot, descriptor number in the new program */                         \
    X(CLOSE_FROM)         /* first descriptor that the new program does not get */                 \
    X(JOIN)               /* slot of a pidfd, CLONE_NEW* flags: into that process's namespaces */  \
    X(CONSOLE)            /* slot of the socket that takes the master, rows, columns,              \
                           * whether at /dev/console too, owner */                                 \
    X(PROGRAM)            /* paths, each ended by a null byte: the first that is there */          \
    X(WAIT_FOR_START)     /* slots of the pipes "created", "start" and "failed" */                 \
    X(HOOK)               /* slot of its input, seconds or 0; path, arguments, environment */      \
    X(CALL)               /* system call, set of the arguments that are texts, arguments; texts */

/* What ATTACH makes where nothing is: missing mount points of an image. */
enum make { MAKE_NOTHING, MAKE_DIRECTORY, MAKE_FILE };

enum step_code {
#define X(name) STEP_##name,
    STEPS(X)
#undef X
    STEP_COUNT
};

struct step {
    enum step_code code;
    int64_t number[STEP_NUMBERS];
    const char *text[STEP_TEXTS];
    uint32_t length[STEP_TEXTS];
};

/* Shared with the parent, which reads it once the child has replaced or ended itself. */
struct child {
    const struct step *steps;
    int step_count;
    const char *path;
    char *const *arguments;
    char *const *environment;
    int slots[SLOTS];
    const char *covered[2]; /* the first file and the first directory that was masked; or NULL */
    int link;        /* the child's end: "go" comes in, the listener of a filter goes out, and its
                      * closing tells of execve or death */
    int parent_link; /* the parent's end, to be closed, or the parent's death would go unseen */

    int report; /* where a failure is told when the parent does not wait any more; or -1 */
    int second; /* pid of the child of this child that goes on in its place; or 0 */
    int failed_step; /* -1: none; step_count: execve itself */
    int failed_errno;
    int64_t cloned_at; /* CLOCK_MONOTONIC, ns, as the next ones */
    int64_t maps_seen_at;
    int64_t execve_at;
};

/* Never returns: ends in execve, or records the failure and exits with 127. */
void child_main(void *child) __attribute__((noreturn));

/* clone3 whose child continues in child_main on its own stack; returns the pid or -errno. */
struct clone_args;
long clone_child(struct clone_args *arguments, struct child *child);

int64_t monotonic_ns(void);

/* Standard dispositions and an empty mask, as every new program should find them. */
void reset_signals(void);

#endif
