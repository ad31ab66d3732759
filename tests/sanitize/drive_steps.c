/* Drives the child's side of a spawn in a plain fork, where a sanitizer or valgrind can watch it.
 *
 * The real child shares its parent's memory (CLONE_VM), which address sanitizer does not expect, and
 * is made by clone3, which valgrind does not know. The steps are the same here: only where the child's
 * memory comes from differs. Needs root. Prints one line per list of steps; exits with the number of
 * lists whose outcome was not the expected one. With the argument `memcheck`, a call that answers
 * ENOSYS ends a list without being wrong: valgrind lets nothing through that it does not know.
 */
#define _GNU_SOURCE
#include "_spawn_child.h"

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
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
#define STEPS_MAXIMUM 24
#define EXECUTED (-1)
#define SEALED 14 /* MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC */
#define PRIVATE (1 << 18)
#define TEXT(string) .text[0] = string, .length[0] = sizeof(string) - 1
#define TEXTS(first, second) \
    .text = {first, second}, .length = {sizeof(first) - 1, sizeof(second) - 1}

struct list {
    const char *name;
    struct step steps[STEPS_MAXIMUM]; /* ended by STEP_COUNT */
    int failed_step;                  /* EXECUTED, or the index */
    int failed_errno;
    int listeners; /* how many descriptors must have come over the link */
};

static const struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
static const gid_t groups[] = {1, 2};
static const char long_options[600] = "";

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
                  STEP(KEYRING), STEP(CAPABILITIES), STEP(NO_NEW_PRIVILEGES), FILTER(0), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "some capabilities kept",
        .steps = {STEP(CAPABILITIES, .number = {1 << 0, 1 << 0, 1 << 0, 1 << 0, 1 << 0}), END},
        .failed_step = EXECUTED,
    },
    {
        .name = "mounts",
        .steps = {STEP(ATTRIBUTES, .number = {0, 0, PRIVATE, 1}, TEXT("/")),
                  STEP(FILESYSTEM, .number = {5, SEALED}, TEXTS("tmpfs", "mode=755,size=64k")),
                  STEP(ATTACH, .number = {5}, TEXT("/mnt")), STEP(DIRECTORY, .number = {0755}, TEXT("/mnt/dir")),
                  STEP(EMPTY_FILE, TEXT("/mnt/file")), STEP(SYMLINK, TEXTS("file", "/mnt/link")),
                  STEP(TREE, .number = {6, 1}, TEXT("/mnt")), STEP(ATTACH, .number = {6}, TEXT("/mnt/dir")),
                  STEP(HOST_NAME, TEXT("box")), STEP(LOOPBACK), STEP(WORKING_DIRECTORY, TEXT("/mnt/dir")), END},
        .failed_step = EXECUTED,
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

static void run_list(const struct list *list, struct child *child)
{
    static char *arguments[] = {"true", NULL}, *environment[] = {NULL};
    int link[2];
    *child = (struct child){.steps = list->steps,
                            .path = "/bin/true",
                            .arguments = arguments,
                            .environment = environment,
                            .failed_step = -1};
    while (list->steps[child->step_count].code != STEP_COUNT)
        child->step_count++;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0)
        exit(99);
    for (int slot = 0; slot < SLOTS; slot++)
        child->slots[slot] = slot < 2 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    child->link = link[1];
    child->parent_link = link[0];
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(NAMESPACES) < 0)
            _exit(98);
        child_main(child);
    }
    close(link[1]);
    close(child->slots[0]);
    close(child->slots[1]);
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
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        run_list(&lists[i], child);
        wrong += outcome_is_wrong(&lists[i], child, memcheck);
    }
    return wrong;
}
