#define _GNU_SOURCE
#include "process.h"

#include "raw_call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define P_PIDFD_ID 3 /* P_PIDFD of <linux/wait.h> */
#define HOOK_TEXTS 64

/* One call joins all: the kernel checks each with the rights that come with the user namespace. A pid
 * namespace is joined by children only, so a second child goes on, as a child of our parent; its pid, in
 * the parent's eyes, is left in the memory that is shared with the parent. */
int join_namespaces(struct child *child, const struct step *step)
{
    /* No process in there may look into this one, which still has the harness's memory (CVE-2019-5736). */
    long result = CALL(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (result == 0)
        result = CALL(SYS_setns, child->slots[step->number[0]], step->number[1]);
    if (result < 0 || !(step->number[1] & CLONE_NEWPID))
        return (int)result;
    struct clone_args arguments = {.flags = CLONE_PARENT};
    result = CALL(SYS_clone3, &arguments, sizeof(arguments));
    if (result < 0)
        return (int)result;
    if (result > 0) {
        child->second = (int)result;
        for (;;)
            CALL(SYS_exit_group, 0);
    }
    return 0;
}

int send_descriptor(int socket, int descriptor, const char *name, int flags)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control = {.aligned = {.cmsg_len = CMSG_LEN(sizeof(int)),
                             .cmsg_level = SOL_SOCKET,
                             .cmsg_type = SCM_RIGHTS}};
    *(int *)(void *)CMSG_DATA(&control.aligned) = descriptor;
    size_t length = 0;
    while (name[length])
        length++;
    /* The kernel only reads it; a message of no bytes would carry no descriptor. */
    union {
        const char *text;
        void *bytes;
    } sent_with = {.text = name};
    struct iovec content = {.iov_base = sent_with.bytes, .iov_len = length ? length : 1};
    struct msghdr message = {.msg_iov = &content,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control.bytes)};
    long sent = CALL(SYS_sendmsg, socket, &message, flags | MSG_NOSIGNAL);
    return sent < 0 ? (int)sent : 0;
}

/* Put the terminal's own end at /dev/console; without the file there it is left out, as in runc. */
static int attach_console(int end)
{
    long made = CALL(SYS_mknod, "/dev/console", S_IFREG | 0600, 0);
    if (made < 0 && made != -EEXIST)
        return made == -EROFS ? 0 : (int)made;
    long tree = CALL(SYS_open_tree, end, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0)
        return (int)tree;
    long result = CALL(SYS_move_mount, tree, "", AT_FDCWD, "/dev/console", MOVE_MOUNT_F_EMPTY_PATH);
    CALL(SYS_close, tree);
    return (int)result;
}

/* A terminal of the container's own devpts: the master goes out, the other end becomes ours. */
int open_console(struct child *child, const struct step *step)
{
    long master = CALL(SYS_openat, AT_FDCWD, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0)
        return (int)master;
    const int unlocked = 0;
    const struct winsize size = {.ws_row = (unsigned short)step->number[1],
                                 .ws_col = (unsigned short)step->number[2]};
    long result = CALL(SYS_ioctl, master, TIOCSPTLCK, &unlocked);
    if (result == 0 && size.ws_row)
        result = CALL(SYS_ioctl, master, TIOCSWINSZ, &size);
    if (result < 0)
        return (int)result;
    /* By descriptor, since a path might name another file system's terminal. */
    long end = CALL(SYS_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (end < 0)
        return (int)end;
    if (step->number[3])
        result = attach_console((int)end);
    if (result == 0)
        result = CALL(SYS_fchown, end, step->number[4], -1);
    if (result == -EINVAL || result == -EPERM)
        result = 0; /* an id that is not mapped, or one that is not ours to give away: it stays root's */
    if (result == 0)
        result = send_descriptor(child->slots[step->number[0]], (int)master, "/dev/ptmx", 0);
    CALL(SYS_close, master);
    if (result == 0)
        result = CALL(SYS_setsid);
    if (result == -EPERM || result > 0)
        result = 0; /* it leads a session already */
    if (result == 0)
        result = CALL(SYS_ioctl, end, TIOCSCTTY, 0);
    for (int number = 0; result >= 0 && number < 3; number++)
        result = CALL(SYS_dup3, end, number, 0);
    return result < 0 ? (int)result : 0;
}

/* Candidates, each ended by a null byte: the first that is there is the program, or the reason why not. */
int find_program(struct child *child, const struct step *step)
{
    int reason = -ENOENT;
    const char *end = step->text[0] + step->length[0];
    for (const char *path = step->text[0]; path < end; path++) {
        struct stat state;
        long result = CALL(SYS_newfstatat, AT_FDCWD, path, &state, 0);
        if (result == 0 && S_ISDIR(state.st_mode))
            result = -EISDIR;
        if (result == 0)
            result = CALL(SYS_faccessat, AT_FDCWD, path, 1 /* X_OK */);
        if (result == 0) {
            child->path = path;
            return 0;
        }
        if (result != -ENOENT && result != -ENOTDIR)
            reason = (int)result;
        while (*path)
            path++;
    }
    return reason;
}

/* Tell that everything is made, then wait until somebody writes a byte into the start pipe. */
int wait_for_start(struct child *child, const struct step *step)
{
    long result = CALL(SYS_write, child->slots[step->number[0]], "", 1);
    if (result < 0)
        return (int)result;
    CALL(SYS_close, child->slots[step->number[0]]);
    /* Whoever created the container is not told any more: it does not wait, and may be gone. */
    CALL(SYS_close, child->link);
    child->link = -1;
    char go;
    do
        result = CALL(SYS_read, child->slots[step->number[1]], &go, 1);
    while (result == -EINTR);
    if (result <= 0)
        return result < 0 ? (int)result : -EPIPE;
    child->report = child->slots[step->number[2]];
    return 0;
}

void report_failure(const struct child *child)
{
    const int32_t record[2] = {child->failed_step, child->failed_errno};
    if (child->report >= 0)
        CALL(SYS_write, child->report, record, sizeof(record));
}

static void become_hook(const struct child *child, const struct step *step)
{
    char *words[2 * HOOK_TEXTS];
    char *const *arguments = words;
    char *const *environment = NULL;
    int count = 0;
    /* texts: path; arguments; environment, the latter two as strings ended by a null byte each */
    for (int part = 1; part < 3; part++) {
        const char *cursor = step->text[part], *end = cursor + step->length[part];
        if (part == 2)
            environment = &words[count];
        for (; cursor < end && count < 2 * HOOK_TEXTS - 2; cursor++) {
            words[count++] = (char *)(uintptr_t)cursor;
            while (*cursor)
                cursor++;
        }
        words[count++] = NULL;
    }
    CALL(SYS_lseek, child->slots[step->number[0]], 0, 0 /* SEEK_SET */);
    CALL(SYS_dup3, child->slots[step->number[0]], 0, 0);
    CALL(SYS_close_range, 3, ~0U, 0);
    reset_signals();
    CALL(SYS_execve, step->text[0], arguments, environment);
    for (;;)
        CALL(SYS_exit_group, 127);
}

/* A program that runs before ours in the same place; its failure, or its being late, is ours. */
int run_hook(const struct child *child, const struct step *step)
{
    int pidfd = -1;
    struct clone_args arguments = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    long pid = CALL(SYS_clone3, &arguments, sizeof(arguments));
    if (pid < 0)
        return (int)pid;
    if (pid == 0)
        become_hook(child, step);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    struct timespec patience = {.tv_sec = step->number[1]};
    long result = CALL(SYS_ppoll, &ended, 1, step->number[1] ? &patience : NULL, NULL, 0);
    if (result <= 0)
        CALL(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    siginfo_t info = {0};
    long waited = CALL(SYS_waitid, P_PIDFD_ID, pidfd, &info, WEXITED, NULL);
    CALL(SYS_close, pidfd);
    if (result == 0)
        return -ETIMEDOUT;
    if (result < 0 || waited < 0)
        return (int)(result < 0 ? result : waited);
    return info.si_code == CLD_EXITED && info.si_status == 0 ? 0 : -ECANCELED;
}

/* number[1] tells which of the arguments are texts: pointers to the next of them. */
int make_call(const struct step *step)
{
    long argument[CALL_ARGUMENTS] = {0};
    int text = 0;
    for (int i = 0; i < CALL_ARGUMENTS; i++)
        argument[i] = step->number[1] >> i & 1 ? (long)(uintptr_t)step->text[text++] : step->number[2 + i];
    long result = CALL(step->number[0], argument[0], argument[1], argument[2], argument[3], argument[4]);
    return result < 0 ? (int)result : 0;
}
