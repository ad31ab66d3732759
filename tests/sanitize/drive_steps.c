/* Drives the child's side of a spawn in a plain fork, where a sanitizer or valgrind can watch it.
 *
 * The real child shares its parent's memory (CLONE_VM), which address sanitizer does not expect, and
 * is made by clone3, which valgrind does not know. The steps are the same here: only where the child's
 * memory comes from differs. Needs root. Prints one line per list of steps; exits with the number of
 * lists whose outcome was not the expected one. With the argument `memcheck`, a call that answers
 * ENOSYS ends a list without being wrong: valgrind lets nothing through that it does not know.
 */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
#define STEPS_MAXIMUM 24
#define EXECUTED (-1)
#define READ_ONLY 1 /* MOUNT_ATTR_RDONLY */
#define NULL_NUMBER 0x103 /* makedev(1, 3) */
#define SEALED 14   /* MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC */
#define PRIVATE (1 << 18)
#define TEXT(string) .text[0] = string, .length[0] = sizeof(string) - 1
#define TEXTS(first, second) \
    .text = {first, second}, .length = {sizeof(first) - 1, sizeof(second) - 1}

/* Slots that every list finds filled; the first two are the null device. */
enum { NULL_DEVICE, ALSO_NULL, SOCKET, STARTED, OURSELVES, GIVEN, A = GIVEN, B, C };

struct list {
    const char *name;
    struct step steps[STEPS_MAXIMUM]; /* ended by STEP_COUNT */
    int failed_step;                  /* EXECUTED, or the index */
    int failed_errno;
    int listeners; /* how many descriptors must have come over the link */
};

static const struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
static const gid_t groups[] = {1, 2};
static const char long_options[5000] = "";
static char long_path[5000]; /* filled by main */

#define FILTER(flags)                                                                              \
    {.code = STEP_FILTER,                                                                          \
     .number = {flags},                                                                            \
     .text = {(const char *)allow},                                                                \
     .length = {sizeof(allow)}}
#define STEP(name, ...) {.code = STEP_##name, __VA_ARGS__}
#define END {.code = STEP_COUNT}

static const struct list lists[] = {
    {.name = "nothing", .steps = {END}, .failed_step = EXECUTED},
    {
        .name = "identity and limits",
        .steps = {STEP(WAIT_FOR_MAPS), STEP(HIDE_EXECUTABLE),
                  STEP(IDENTITY, .number = {0, 0, 0}, .text = {(const char *)groups},
                       .length = {sizeof(groups)}),
                  STEP(DEATH_SIGNAL, .number = {SIGKILL}), STEP(SESSION),
                  STEP(LIMIT, .number = {RLIMIT_CORE, 0, 0}), STEP(FILE_MODE_MASK, .number = {022}),
                  STEP(KEYRING), STEP(BOUNDING), STEP(CAPABILITIES), STEP(NO_NEW_PRIVILEGES), FILTER(0), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "some capabilities kept",
        .steps = {STEP(BOUNDING, .number = {1 << 0}), STEP(CAPABILITIES, .number = {1, 1, 1, 1}), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "mounts",
        .steps = {STEP(ATTRIBUTES, .number = {0, 0, PRIVATE, 1}, TEXT("/")),
                  STEP(FILESYSTEM, .number = {5, SEALED}, TEXTS("tmpfs", "mode=755,size=64k")),
                  STEP(ATTACH, .number = {5}, TEXT("/mnt")), STEP(DIRECTORY, .number = {0755}, TEXT("/mnt/dir")),
                  STEP(NODE, .number = {S_IFREG | 0644}, TEXT("/mnt/file")), STEP(SYMLINK, TEXTS("file", "/mnt/link")),
                  STEP(SYMLINK, TEXTS("other", "/mnt/link")), STEP(WRITE, TEXTS("/mnt/file", "text")),
                  STEP(NODE, .number = {S_IFCHR | 0666, NULL_NUMBER, 1, 2}, TEXT("/mnt/new/null")),
                  STEP(TREE, .number = {6, 1}, TEXT("/mnt")), STEP(ATTACH, .number = {6}, TEXT("/mnt/dir")),
                  STEP(HOST_NAME, TEXT("box")), STEP(LOOPBACK),
                  STEP(WORKING_DIRECTORY, .number = {1}, TEXT("/mnt/dir/a/b")), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "copies and covers",
        .steps = {STEP(ATTRIBUTES, .number = {0, 0, PRIVATE, 1}, TEXT("/")),
                  STEP(FILESYSTEM, .number = {A, SEALED}, TEXTS("tmpfs", "")),
                  STEP(FILESYSTEM, .number = {B, SEALED}, TEXTS("tmpfs", "")),
                  STEP(TREE, .number = {C, 0}, TEXT("/dev/null")),
                  STEP(SLOT_ATTRIBUTES, .number = {B, READ_ONLY, 0, 0, 1}),
                  STEP(ATTACH, .number = {A, MAKE_NOTHING}, TEXT("/mnt")),
                  STEP(ATTACH, .number = {B, MAKE_DIRECTORY}, TEXT("/mnt/a/b")),
                  STEP(ATTACH, .number = {C, MAKE_FILE}, TEXT("/mnt/c/d")),
                  STEP(TREE, .number = {C, 0}, TEXT("/dev/null")),
                  STEP(FILESYSTEM, .number = {A, SEALED}, TEXTS("tmpfs", "")),
                  STEP(NODE, .number = {S_IFREG | 0644}, TEXT("/mnt/file")), STEP(MASK, .number = {C, A}, TEXT("/mnt/file")),
                  STEP(MASK, .number = {C, A}, TEXT("/mnt/a")), STEP(MASK, .number = {C, A}, TEXT("/mnt/none")),
                  STEP(READ_ONLY, .number = {READ_ONLY}, TEXT("/mnt/c")),
                  STEP(READ_ONLY, .number = {READ_ONLY}, TEXT("/mnt/none")), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "mounts and covers in one call each",
        .steps = {STEP(ATTRIBUTES, .number = {0, 0, PRIVATE, 1}, TEXT("/")),
                  STEP(MOUNT, .number = {0}, .text = {"tmpfs", "mode=755,size=64k", "/mnt"}),
                  STEP(NODE, .number = {S_IFREG | 0644}, TEXT("/mnt/file")), STEP(DIRECTORY, .number = {0755}, TEXT("/mnt/dir")),
                  STEP(MASK_FROM, TEXTS("/mnt/file", "/dev/null")), STEP(MASK_FROM, TEXTS("/mnt/dir", "/mnt")),
                  STEP(MASK_FROM, TEXTS("/mnt/none", "/dev/null")), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "a cover of another kind",
        .steps = {STEP(ATTRIBUTES, .number = {0, 0, PRIVATE, 1}, TEXT("/")),
                  STEP(MASK_FROM, TEXTS("/mnt", "/dev/null")), END},
        .failed_step = 1,
        .failed_errno = ENOTDIR,
    },
    {
        .name = "a cover that is missing",
        .steps = {STEP(ATTRIBUTES, .number = {0, 0, PRIVATE, 1}, TEXT("/")),
                  STEP(MASK_FROM, TEXTS("/mnt", "/nowhere")), END},
        .failed_step = 1,
        .failed_errno = ENOENT,
    },
    {
        .name = "a file system that is unknown",
        .steps = {STEP(MOUNT, .text = {"nosuchfs", "", "/mnt"}), END},
        .failed_step = 0,
        .failed_errno = ENODEV,
    },
    {
        .name = "a terminal",
        .steps = {STEP(ATTRIBUTES, .number = {0, 0, PRIVATE, 1}, TEXT("/")),
                  STEP(FILESYSTEM, .number = {A, 0}, TEXTS("devpts", "newinstance,ptmxmode=666")),
                  STEP(ATTACH, .number = {A}, TEXT("/dev/pts")),
                  STEP(CONSOLE, .number = {SOCKET, 24, 80, 0, 0}), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "a hook",
        .steps = {STEP(HOOK, .number = {NULL_DEVICE, 5}, .text = {"/bin/true", "true\0word", "A=b\0C=d"},
                       .length = {9, 10, 8}), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "a namespace, other calls, and a wait to be started",
        .steps = {STEP(JOIN, .number = {OURSELVES, CLONE_NEWUTS}),
                  STEP(CALL, .number = {SYS_getpid}), STEP(CALL, .number = {SYS_chdir, 1}, TEXT("/")),
                  STEP(PROGRAM, TEXT("/nowhere\0/etc\0/bin/true\0")),
                  STEP(WAIT_FOR_START, .number = {ALSO_NULL, STARTED, NULL_DEVICE}), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "a hook that fails",
        .steps = {STEP(HOOK, .number = {NULL_DEVICE, 5}, .text = {"/bin/false", "false\0", ""},
                       .length = {10, 6, 0}), END},
        .failed_errno = ECANCELED,
    },
    {
        .name = "a hook that is late",
        .steps = {STEP(HOOK, .number = {NULL_DEVICE, 1}, .text = {"/bin/sleep", "sleep\0" "60\0", ""},
                       .length = {10, 9, 0}), END},
        .failed_errno = ETIMEDOUT,
    },
    {
        .name = "no program among the candidates",
        .steps = {STEP(PROGRAM, TEXT("/nowhere\0/etc\0/etc/passwd\0")), END},
        .failed_errno = EACCES,
    },
    {
        .name = "a path that is too long",
        .steps = {STEP(WORKING_DIRECTORY, .number = {1}, .text = {long_path}, .length = {sizeof(long_path)}), END},
        .failed_errno = ENAMETOOLONG,
    },
    {
        .name = "another root, without the program in it",
        .steps = {STEP(ATTRIBUTES, .number = {0, 0, PRIVATE, 1}, TEXT("/")),
                  STEP(FILESYSTEM, .number = {5, SEALED}, TEXTS("tmpfs", "")),
                  STEP(ATTACH, .number = {5}, TEXT("/mnt")), STEP(PIVOT, .number = {5}), END},
        .failed_step = 4,
        .failed_errno = ENOENT,
    },
    {
        .name = "scopes",
        .steps = {STEP(NO_NEW_PRIVILEGES), STEP(SCOPES, .number = {3}), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "a listener",
        .steps = {STEP(NO_NEW_PRIVILEGES), FILTER(SECCOMP_FILTER_FLAG_NEW_LISTENER), END},
        .failed_step = EXECUTED,
        .listeners = 1,
    },
    {
        .name = "descriptors",
        .steps = {STEP(DUPLICATE, .number = {0, 1}), STEP(DUPLICATE, .number = {1, 0}),
                  STEP(DUPLICATE, .number = {1, 2}), STEP(CLOSE_FROM, .number = {3}), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "an empty slot",
        .steps = {STEP(SESSION), STEP(DUPLICATE, .number = {7, 0}), END},
        .failed_step = 1,
        .failed_errno = EBADF,
    },
    {
        .name = "no such file system",
        .steps = {STEP(FILESYSTEM, .number = {5, 0}, TEXTS("nosuchfs", "")), END},
        .failed_errno = ENODEV,
    },
    {
        .name = "options without a value, a key or an end",
        .steps = {STEP(FILESYSTEM, .number = {5, 0}, TEXTS("tmpfs", "ro,size=64k,,=,mode==,")), END},
        .failed_errno = EINVAL,
    },
    {
        .name = "options that are too long",
        .steps = {STEP(FILESYSTEM, .number = {5, 0}, .text = {"tmpfs", long_options},
                       .length = {5, sizeof(long_options)}), END},
        .failed_errno = E2BIG,
    },
    {
        .name = "no such directory",
        .steps = {STEP(WORKING_DIRECTORY, TEXT("/nowhere")), END},
        .failed_errno = ENOENT,
    },
    {
        .name = "unknown scopes",
        .steps = {STEP(NO_NEW_PRIVILEGES), STEP(SCOPES, .number = {(int64_t)1 << 63}), END},
        .failed_step = 1,
        .failed_errno = EINVAL,
    },
};

/* How many descriptors came with messages before the child's end. */
static int count_descriptors(int link)
{
    int count = 0;
    for (;;) {
        char byte, control[CMSG_SPACE(sizeof(int))];
        struct iovec content = {&byte, 1};
        struct msghdr message = {.msg_iov = &content, .msg_iovlen = 1};
        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        ssize_t got = recvmsg(link, &message, 0);
        if (got < 0 && errno == ECONNRESET)
            continue; /* it has not read its go-ahead */
        if (got <= 0)
            return count;
        if (message.msg_controllen >= CMSG_LEN(sizeof(int)))
            count++;
    }
}

static void fill_slots(int *slots)
{
    int ends[2];
    for (int slot = 0; slot < SLOTS; slot++)
        slots[slot] = -1;
    slots[NULL_DEVICE] = open("/dev/null", O_RDWR | O_CLOEXEC);
    slots[ALSO_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
    slots[OURSELVES] = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    if (pipe2(ends, O_CLOEXEC) < 0 || write(ends[1], "", 1) != 1)
        exit(96);
    slots[STARTED] = ends[0];
    close(ends[1]);
    /* The socket's other end stays open, so that what is sent to it has somewhere to go. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        exit(95);
    slots[SOCKET] = ends[0];
}

static void run_list(const struct list *list, struct child *child)
{
    static char *arguments[] = {"true", NULL}, *environment[] = {NULL};
    int link[2];
    *child = (struct child){.steps = list->steps,
                            .path = "/bin/true",
                            .arguments = arguments,
                            .environment = environment,
                            .report = -1,
                            .failed_step = -1};
    while (list->steps[child->step_count].code != STEP_COUNT)
        child->step_count++;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0)
        exit(99);
    fill_slots(child->slots);
    child->link = link[1];
    child->parent_link = link[0];
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(NAMESPACES) < 0)
            _exit(98);
        child_main(child);
    }
    close(link[1]);
    for (int slot = 0; slot < GIVEN; slot++)
        close(child->slots[slot]);
    ssize_t written = write(link[0], "", 1);
    (void)written;
}

static int outcome_is_wrong(const struct list *list, const struct child *child, int memcheck)
{
    int listeners = count_descriptors(child->parent_link), status;
    close(child->parent_link);
    if (wait(&status) < 0)
        return 1;
    if (memcheck && child->failed_errno == ENOSYS) {
        printf("not covered: %s: from step %d on\n", list->name, child->failed_step);
        fflush(stdout);
        return 0;
    }
    int expected = list->failed_step == EXECUTED ? 0 : 127;
    int wrong = !WIFEXITED(status) || WEXITSTATUS(status) != expected ||
                child->failed_step != list->failed_step || child->failed_errno != list->failed_errno ||
                listeners != list->listeners || (list->failed_step == EXECUTED && !child->execve_at);
    printf("%s: %s: status %d, step %d, errno %d, listeners %d\n", wrong ? "WRONG" : "ok", list->name, status,
           child->failed_step, child->failed_errno, listeners);
    fflush(stdout);
    return wrong;
}

int main(int count, char **arguments)
{
    int memcheck = count == 2 && strcmp(arguments[1], "memcheck") == 0;
    struct child *child = mmap(NULL, sizeof(*child), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (child == MAP_FAILED)
        return 97;
    int wrong = 0;
    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[0] = '/';
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        run_list(&lists[i], child);
        wrong += outcome_is_wrong(&lists[i], child, memcheck);
    }
    return wrong;
}
