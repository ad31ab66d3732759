/* The child's side of a spawn; see child.h for the rules that hold here. */
#define _GNU_SOURCE
#include "child.h"

#include "raw_call.h"
#include "process.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define FIRST_SAFE_DESCRIPTOR 64 /* above every number a DUPLICATE step may name */
#define FIRST_NOBODYS 32         /* as many as that may be passed on by number */
#define CROWDED 512              /* descriptors of the parent */
#define DETACH_OLD_ROOT 2        /* MNT_DETACH; <sys/mount.h> and <linux/mount.h> exclude each other */

long clone_child(struct clone_args *arguments, struct child *child)
{
    long result;
    register void (*entry)(void *) __asm__("r12") = child_main;
    register void *argument __asm__("r13") = child;
    /* The child returns from the system call on a fresh stack, so it may use registers only. */
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "0"(SYS_clone3), "D"(arguments), "S"(sizeof(*arguments)), "r"(entry), "r"(argument)
                     : "rcx", "r11", "memory");
    return result;
}

int64_t monotonic_ns(void)
{
    struct timespec now;
    CALL(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int wait_for_maps(struct child *child)
{
    char go;
    long got;
    do
        got = CALL(SYS_read, child->link, &go, 1);
    while (got == -EINTR);
    child->maps_seen_at = monotonic_ns();
    if (got == 0)
        return -EPIPE; /* the parent is gone */
    return got < 0 ? (int)got : 0;
}

static int take_identity(const struct step *step)
{
    long result = 0;
    /* An ordinary user's namespace has setgroups denied and keeps the groups it has. */
    if (!step->number[2])
        result = CALL(SYS_setgroups, step->length[0] / sizeof(gid_t), step->text[0]);
    if (result == 0)
        result = CALL(SYS_setresgid, step->number[1], step->number[1], step->number[1]);
    if (result == 0)
        result = CALL(SYS_setresuid, step->number[0], step->number[0], step->number[0]);
    return (int)result;
}

static int set_death_signal(struct child *child, const struct step *step)
{
    long result = CALL(SYS_prctl, PR_SET_PDEATHSIG, step->number[0], 0, 0, 0);
    if (result < 0)
        return (int)result;
    /* The parent may have died before the signal was asked for; in a pid namespace getppid()
     * says 0 either way, but its end of the link is closed by then. */
    char byte;
    result = CALL(SYS_recvfrom, child->link, &byte, 1, MSG_DONTWAIT | MSG_PEEK, 0, 0);
    return result == 0 ? -EPIPE : 0;
}

/* Splits options in place on a copy, because fsconfig takes them one at a time. */
static int configure(int context, const char *options, uint32_t length)
{
    char buffer[4096];
    if (length >= sizeof(buffer))
        return -E2BIG;
    for (uint32_t i = 0; i < length; i++)
        buffer[i] = options[i];
    buffer[length] = '\0';
    char *cursor = buffer;
    while (*cursor) {
        char *key = cursor, *value = NULL;
        while (*cursor && *cursor != ',') {
            if (*cursor == '=' && !value) {
                *cursor = '\0';
                value = cursor + 1;
            }
            cursor++;
        }
        if (*cursor)
            *cursor++ = '\0';
        long result = value ? CALL(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0)
                            : CALL(SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, 0, 0);
        if (result < 0)
            return (int)result;
    }
    return (int)CALL(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
}

static int make_filesystem(struct child *child, const struct step *step)
{
    long context = CALL(SYS_fsopen, step->text[0], FSOPEN_CLOEXEC);
    if (context < 0)
        return (int)context;
    long result = configure((int)context, step->text[1], step->length[1]);
    if (result == 0)
        result = CALL(SYS_fsmount, context, FSMOUNT_CLOEXEC, step->number[1]);
    CALL(SYS_close, context);
    if (result < 0)
        return (int)result;
    child->slots[step->number[0]] = (int)result;
    return 0;
}

static int copy_tree(struct child *child, const struct step *step)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (step->number[1] ? AT_RECURSIVE : 0);
    long result = CALL(SYS_open_tree, AT_FDCWD, step->text[0], flags);
    if (result < 0)
        return (int)result;
    child->slots[step->number[0]] = (int)result;
    return 0;
}

static int set_attributes(const struct step *step)
{
    struct mount_attr attributes = {
        .attr_set = (uint64_t)step->number[0],
        .attr_clr = (uint64_t)step->number[1],
        .propagation = (uint64_t)step->number[2],
    };
    return (int)CALL(SYS_mount_setattr, AT_FDCWD, step->text[0], step->number[3] ? AT_RECURSIVE : 0,
                     &attributes, sizeof(attributes));
}

static int pivot(struct child *child, const struct step *step)
{
    long result = CALL(SYS_fchdir, child->slots[step->number[0]]);
    /* With both paths "." the old root ends up mounted over the new one, so that no directory
     * for it is needed inside the image (pivot_root(2), NOTES). */
    if (result == 0)
        result = CALL(SYS_pivot_root, ".", ".");
    if (result == 0)
        result = CALL(SYS_umount2, ".", DETACH_OLD_ROOT);
    if (result == 0)
        result = CALL(SYS_chdir, "/");
    return (int)result;
}

static int bring_loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    long control = CALL(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0)
        return (int)control;
    long result = CALL(SYS_ioctl, control, SIOCSIFFLAGS, &request);
    CALL(SYS_close, control);
    return (int)result;
}

static int limit_bounding_set(const struct step *step)
{
    const uint64_t kept = (uint64_t)step->number[0];
    for (int capability = 0; capability < 64; capability++) {
        if (kept >> capability & 1)
            continue;
        long result = CALL(SYS_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0);
        if (result == -EINVAL)
            break; /* the kernel knows no capability from here on */
        if (result < 0)
            return (int)result;
    }
    return 0;
}

static int set_capabilities(const struct step *step)
{
    const uint64_t ambient = (uint64_t)step->number[3];
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int half = 0; half < 2; half++) {
        data[half].effective = (uint32_t)((uint64_t)step->number[0] >> 32 * half);
        data[half].permitted = (uint32_t)((uint64_t)step->number[1] >> 32 * half);
        data[half].inheritable = (uint32_t)((uint64_t)step->number[2] >> 32 * half);
    }
    long result = CALL(SYS_capset, &header, data);
    if (result == 0)
        result = CALL(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int capability = 0; result == 0 && capability < 64; capability++)
        if (ambient >> capability & 1)
            result = CALL(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
    return (int)result;
}

/* <linux/landlock.h> of Linux 6.12: the headers to compile with may be older than the kernel to run on. */
static int restrict_scopes(const struct step *step)
{
    struct {
        uint64_t file_system, network, scopes;
    } rules = {.scopes = (uint64_t)step->number[0]};
    long ruleset = CALL(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    if (ruleset < 0)
        return (int)ruleset;
    long result = CALL(SYS_landlock_restrict_self, ruleset, 0);
    CALL(SYS_close, ruleset);
    return (int)result;
}

static int install_filter(const struct child *child, const struct step *step)
{
    /* The kernel only reads it, but its header says so by a comment alone. */
    union {
        const char *text;
        struct sock_filter *filter;
    } bytes = {.text = step->text[0]};
    struct sock_fprog program = {
        .len = (unsigned short)(step->length[0] / sizeof(struct sock_filter)),
        .filter = bytes.filter,
    };
    long result = CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, step->number[0], &program);
    if (result < 0 || !(step->number[0] & SECCOMP_FILTER_FLAG_NEW_LISTENER))
        return (int)result;
    /* Closed by execve, for which it is marked. The filter is in force already: sendmsg must be allowed. */
    return send_descriptor(child->link, (int)result, "", MSG_DONTWAIT);
}

static int limit_resource(const struct step *step)
{
    struct {
        uint64_t soft, hard;
    } limit = {(uint64_t)step->number[1], (uint64_t)step->number[2]};
    return (int)CALL(SYS_prlimit64, 0, step->number[0], &limit, 0);
}

static int carry_out(struct child *child, const struct step *step)
{
    switch (step->code) {
    case STEP_WAIT_FOR_MAPS:
        return wait_for_maps(child);
    case STEP_HIDE_EXECUTABLE:
        return (int)CALL(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    case STEP_IDENTITY:
        return take_identity(step);
    case STEP_DEATH_SIGNAL:
        return set_death_signal(child, step);
    case STEP_SESSION: {
        long session = CALL(SYS_setsid);
        return session < 0 ? (int)session : 0;
    }
    case STEP_FILESYSTEM:
        return make_filesystem(child, step);
    case STEP_TREE:
        return copy_tree(child, step);
    case STEP_ATTACH:
        return attach(child, step);
    case STEP_MOUNT:
        return mount_at(step);
    case STEP_SLOT_ATTRIBUTES:
        return set_slot_attributes(child, step);
    case STEP_ATTRIBUTES:
        return set_attributes(step);
    case STEP_MASK:
        return mask(child, step);
    case STEP_MASK_FROM:
        return mask_from(step);
    case STEP_READ_ONLY:
        return make_read_only(step);
    case STEP_DIRECTORY:
        return (int)CALL(SYS_mkdir, step->text[0], step->number[0]);
    case STEP_SYMLINK:
        return make_symlink(step);
    case STEP_PIVOT:
        return pivot(child, step);
    case STEP_WORKING_DIRECTORY:
        return enter_directory(step);
    case STEP_NODE:
        return make_node(step);
    case STEP_WRITE:
        return write_file(step);
    case STEP_HOST_NAME:
        return (int)CALL(SYS_sethostname, step->text[0], step->length[0]);
    case STEP_LIMIT:
        return limit_resource(step);
    case STEP_LOOPBACK:
        return bring_loopback_up();
    case STEP_KEYRING: {
        long keyring = CALL(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
        return keyring < 0 ? (int)keyring : 0;
    }
    case STEP_BOUNDING:
        return limit_bounding_set(step);
    case STEP_CAPABILITIES:
        return set_capabilities(step);
    case STEP_NO_NEW_PRIVILEGES:
        return (int)CALL(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case STEP_SCOPES:
        return restrict_scopes(step);
    case STEP_FILTER:
        return install_filter(child, step);
    case STEP_FILE_MODE_MASK:
        CALL(SYS_umask, step->number[0]);
        return 0;
    case STEP_DUPLICATE: {
        /* Without O_CLOEXEC: this one is meant for the new program. */
        long result = CALL(SYS_dup3, child->slots[step->number[0]], step->number[1], 0);
        return result < 0 ? (int)result : 0;
    }
    case STEP_CLOSE_FROM:
        /* Marked, not closed: the link must stay open until execve to tell of a failure. */
        return (int)CALL(SYS_close_range, step->number[0], ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
    case STEP_JOIN:
        return join_namespaces(child, step);
    case STEP_CONSOLE:
        return open_console(child, step);
    case STEP_PROGRAM:
        return find_program(child, step);
    case STEP_WAIT_FOR_START:
        return wait_for_start(child, step);
    case STEP_HOOK:
        return run_hook(child, step);
    case STEP_CALL:
        return make_call(step);
    case STEP_COUNT:
        break;
    }
    return -ENOSYS;
}

/* Descriptors below the numbers that DUPLICATE steps name would be overwritten by them. */
static int move_descriptors_up(struct child *child)
{
    int *descriptors[SLOTS + 1];
    int count = 0;
    descriptors[count++] = &child->link;
    for (int slot = 0; slot < SLOTS; slot++)
        descriptors[count++] = &child->slots[slot];
    for (int i = 0; i < count; i++) {
        if (*descriptors[i] < 0 || *descriptors[i] >= FIRST_SAFE_DESCRIPTOR)
            continue;
        long moved = CALL(SYS_fcntl, *descriptors[i], F_DUPFD_CLOEXEC, FIRST_SAFE_DESCRIPTOR);
        if (moved < 0)
            return (int)moved;
        if (i == 0)
            CALL(SYS_close, child->link); /* or its closing at execve would not be the last */
        *descriptors[i] = (int)moved;
    }
    /* A harness with many containers has no number free below the limit on open files that the child takes on. What
     * is needed lies above by now, or among the lowest, where callers pass on what is theirs. */
    if (child->link >= CROWDED)
        CALL(SYS_close_range, FIRST_NOBODYS, FIRST_SAFE_DESCRIPTOR - 1, 0);
    return 0;
}

/* CLONE_CLEAR_SIGHAND leaves ignored signals ignored, and Python ignores SIGPIPE and SIGXFSZ. */
void reset_signals(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
    } standard = {0};
    for (int number = 1; number < 65; number++)
        if (number != SIGKILL && number != SIGSTOP)
            CALL(SYS_rt_sigaction, number, &standard, 0, 8);
    const uint64_t none = 0;
    CALL(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
}

void child_main(void *argument)
{
    struct child *child = argument;
    child->cloned_at = monotonic_ns();
    CALL(SYS_close, child->parent_link);
    int result = move_descriptors_up(child);
    int index = 0;
    if (result == 0)
        for (; index < child->step_count; index++) {
            result = carry_out(child, &child->steps[index]);
            if (result < 0)
                break;
        }
    if (result == 0) {
        reset_signals();
        child->execve_at = monotonic_ns();
        result = (int)CALL(SYS_execve, child->path, child->arguments, child->environment);
    }
    child->failed_step = index;
    child->failed_errno = -result;
    report_failure(child);
    for (;;)
        CALL(SYS_exit_group, 127);
}
