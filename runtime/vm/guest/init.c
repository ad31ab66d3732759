/*
 * The first process of a guest: one small static binary that gets from the kernel to the workload.
 *
 * It talks to the host over serial lines, the one device whose driver is built into every kernel:
 *
 *   ttyS0  the kernel's console; only diagnostics
 *   ttyS1  lines to the host: `kernel` (`kernel tty` if the port is refused), `sandbox`, `exec` (from a
 *          marking workload) or `execve`, `exit <status>`, `signal <number>`,
 *          `error <call> <subject>: <reason>`;
 *          lines from the host and their answers: `stop` and `stopping`, `kill`, `freeze` and `frozen`,
 *          `renew <identity>`, `restored` and `renewed` (see renew.c), `commands <nonce>` (see commands.c)
 *   ttyS2  the workload's standard output and error
 *   ttyS3  commands, unless a virtio port carries them
 *
 * What to run stands in /.pybench/workload (see runtime/vm/workload.py), which the host appended to
 * the initramfs: the start needs no answer from the host.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <sys/io.h>
#endif

#define MODULES "/.pybench/modules"
#define RECORD_PATH "/.pybench/workload"
#define RECORD_MAGIC "pybench-workload-2"
#define RECORD_MAXIMUM (256 * 1024)
#define FIELDS_MAXIMUM 4096
#define CGROUP_ROOT "/sys/fs/cgroup"
#define LINE_MAXIMUM 1024
#define COM2 0x2f8

/* What the host asked for; every pointer points into the record. */
struct workload {
    const char *host_name;
    const char *directory;
    int marking;
    char **limits; /* pairs of cgroup file and value, ended by NULL */
    char **files;  /* pairs of path and mode, see files.c */
    char **arguments;
    char **environment; /* one free slot before the final NULL, for PYBENCH_MARK_FD */
    size_t environment_count;
};

static int marks = -1;
static int output = -1;
static pid_t command_server;

/* In the child that becomes the workload: where a byte says that it did not. */
static int failure = -1;

void tell(const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    if ((size_t)length > sizeof line - 2)
        length = (int)sizeof line - 2;
    line[length] = '\n';
    /* Nobody is left to be told about a failure of this very write. */
    ssize_t ignored = write(marks, line, (size_t)length + 1);
    (void)ignored;
}

/* The end of the guest. The kernel's own paths are taken: it stops its devices and then the machine. */
static _Noreturn void power_off(void)
{
    tcdrain(output);
    tcdrain(marks);
    sync();
    /* Without ACPI the kernel cannot switch off and would halt; but it can always reset, and the domain ends on either. */
    if (access("/sys/firmware/acpi", F_OK) == 0)
        reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}

_Noreturn void fail(const char *call, const char *subject)
{
    tell("error %s %s: %s", call, subject, strerror(errno));
    if (failure >= 0) {
        ssize_t ignored = write(failure, "!", 1);
        (void)ignored;
        _exit(127);
    }
    power_off();
}

void report_failures_to(int descriptor)
{
    marks = failure = descriptor;
}

/*
 * The mark `kernel`, before anything else is done. Writing to the port itself instead of the tty
 * spares the start-up of the tty driver; the UART's holding register takes a byte whenever bit 5 of
 * the line status register is set. A kernel that is locked down refuses the port: 0 then.
 */
static int mark_first_instruction(void)
{
#if defined(__x86_64__)
    static const char line[] = "kernel\n";
    if (ioperm(COM2, 8, 1) != 0)
        return 0;
    for (const char *byte = line; *byte; byte++) {
        for (int tries = 0; tries < 10000 && !(inb(COM2 + 5) & 0x20); tries++)
            ;
        outb((unsigned char)*byte, COM2);
    }
    ioperm(COM2, 8, 0);
    return 1;
#else
    return 0;
#endif
}

/* No echo, no line editing, no CR translation. */
int open_serial(const char *path, int flags)
{
    int line = open(path, flags | O_NOCTTY | O_CLOEXEC);
    if (line < 0)
        return -1;
    struct termios settings;
    if (tcgetattr(line, &settings) == 0) {
        cfmakeraw(&settings);
        settings.c_cflag |= CLOCAL;
        cfsetspeed(&settings, B115200);
        tcsetattr(line, TCSANOW, &settings);
    }
    return line;
}

void mount_at(const char *source, const char *path, const char *type, unsigned long flags, const char *options)
{
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        fail("mkdir", path);
    if (mount(source, path, type, flags, options) != 0)
        fail("mount", path);
}

static void mount_file_systems(void)
{
    const unsigned long inert = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    mount_at("proc", "/proc", "proc", inert, NULL);
    mount_at("sysfs", "/sys", "sysfs", inert, NULL);
    mount_at("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, NULL);
    mount_at("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_at("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
}

static char *next_field(char **position, const char *end)
{
    char *field = *position;
    if (field >= end) {
        errno = EBADMSG;
        fail("read", RECORD_PATH);
    }
    *position += strlen(field) + 1;
    return field;
}

/* A counted list of fields, ended by NULL, with `spare` free slots before the end. */
static char **next_list(char **position, const char *end, size_t spare, size_t *count)
{
    *count = strtoul(next_field(position, end), NULL, 10);
    if (*count > FIELDS_MAXIMUM) {
        errno = E2BIG;
        fail("read", RECORD_PATH);
    }
    char **list = calloc(*count + spare + 1, sizeof *list);
    if (list == NULL)
        fail("calloc", RECORD_PATH);
    for (size_t index = 0; index < *count; index++)
        list[index] = next_field(position, end);
    return list;
}

static void read_workload(struct workload *workload)
{
    static char record[RECORD_MAXIMUM + 1];
    int file = open(RECORD_PATH, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        fail("open", RECORD_PATH);
    ssize_t length = 0, got;
    while (length < RECORD_MAXIMUM && (got = read(file, record + length, RECORD_MAXIMUM - (size_t)length)) > 0)
        length += got;
    close(file);
    char *position = record;
    const char *end = record + length;
    if (strcmp(next_field(&position, end), RECORD_MAGIC) != 0) {
        errno = EBADMSG;
        fail("read", RECORD_PATH);
    }
    size_t count;
    workload->host_name = next_field(&position, end);
    workload->directory = next_field(&position, end);
    workload->marking = strcmp(next_field(&position, end), "marking") == 0;
    workload->limits = next_list(&position, end, 0, &count);
    char **identity = next_list(&position, end, 0, &count);
    set_identity(identity, count);
    workload->files = next_list(&position, end, 0, &count);
    workload->arguments = next_list(&position, end, 0, &count);
    workload->environment = next_list(&position, end, 1, &workload->environment_count);
    if (workload->arguments[0] == NULL) {
        errno = EBADMSG;
        fail("read", RECORD_PATH);
    }
}

void write_file(const char *path, const char *value)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        fail("open", path);
    if (write(file, value, strlen(value)) < 0)
        fail("write", path);
    close(file);
}

/*
 * The image's kernel modules, if it has any, in the order that their dependences ask for. One with a question
 * mark in front is for a layer above a disk, and costs its time only where there is one.
 */
static void load_modules(int layered)
{
    FILE *order = fopen(MODULES "/order", "re");
    if (order == NULL)
        return;
    char path[256] = MODULES "/", *name = path + sizeof MODULES;
    while (fgets(name, (int)(sizeof path - sizeof MODULES), order) != NULL) {
        name[strcspn(name, "\n")] = '\0';
        if (name[0] == '?' && !layered)
            continue;
        if (name[0] == '?')
            memmove(name, name + 1, strlen(name));
        int module = open(path, O_RDONLY | O_CLOEXEC);
        if (module < 0)
            fail("open", path);
        if (syscall(SYS_finit_module, module, "", 0) != 0 && errno != EEXIST)
            fail("finit_module", path);
        close(module);
    }
    fclose(order);
}

/* Limits below the size of the machine itself, such as half a processor, are a cgroup v2's. */
static void apply_limits(char **limits)
{
    if (limits[0] == NULL)
        return;
    mount_at("cgroup2", CGROUP_ROOT, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (mkdir(CGROUP_WORKLOAD, 0755) != 0)
        fail("mkdir", CGROUP_WORKLOAD);
    for (char **limit = limits; limit[0] != NULL && limit[1] != NULL; limit += 2) {
        char path[128], controller[32];
        snprintf(controller, sizeof controller, "+%.*s", (int)strcspn(limit[0], "."), limit[0]);
        write_file(CGROUP_ROOT "/cgroup.subtree_control", controller);
        snprintf(path, sizeof path, CGROUP_WORKLOAD "/%s", limit[0]);
        write_file(path, limit[1]);
    }
}

/* In the child: everything between fork and execve. */
static _Noreturn void become_workload(struct workload *workload, const sigset_t *signals)
{
    char mark_variable[32];
    int input = open("/dev/null", O_RDONLY);
    setsid();
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
        fail("dup2", "standard streams");
    if (workload->marking) {
        snprintf(mark_variable, sizeof mark_variable, "PYBENCH_MARK_FD=%d", fcntl(marks, F_DUPFD, 3));
        workload->environment[workload->environment_count] = mark_variable;
    }
    if (workload->limits[0] != NULL)
        write_file(CGROUP_WORKLOAD "/cgroup.procs", "0");
    if (chdir(workload->directory) != 0)
        fail("chdir", workload->directory);
    drop_privileges();
    sigprocmask(SIG_SETMASK, signals, NULL);
    tell("sandbox");
    execve(workload->arguments[0], workload->arguments, workload->environment);
    fail("execve", workload->arguments[0]);
}

/*
 * Starts the workload. That execve succeeded shows as the end of a close-on-exec pipe without a byte
 * in it; the host is told so only about a workload that does not push a mark of its own.
 */
static pid_t start_workload(struct workload *workload)
{
    int gate[2];
    if (pipe2(gate, O_CLOEXEC) != 0)
        fail("pipe2", "gate");
    sigset_t child_signal, original;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_signal, &original);
    pid_t child = fork();
    if (child < 0)
        fail("fork", "workload");
    if (child == 0) {
        failure = gate[1];
        become_workload(workload, &original);
    }
    close(gate[1]);
    char byte;
    if (read(gate[0], &byte, 1) == 0 && !workload->marking)
        tell("execve");
    close(gate[0]);
    return child;
}

/* Reaps whatever ended; true once the workload itself has. */
static int workload_ended(pid_t workload)
{
    int status, ended = 0;
    pid_t child;
    while ((child = waitpid(-1, &status, WNOHANG)) > 0) {
        if (child == command_server)
            command_server = 0;
        if (child != workload)
            continue;
        ended = 1;
        if (WIFSIGNALED(status))
            tell("signal %d", WTERMSIG(status));
        else
            tell("exit %d", WEXITSTATUS(status));
    }
    return ended;
}

static void obey(pid_t workload, char *line)
{
    char *word = strtok(line, " "), *rest = strtok(NULL, "");
    if (word == NULL)
        return;
    if (strcmp(word, "kill") == 0) {
        kill(-workload, SIGKILL);
    } else if (strcmp(word, "stop") == 0) {
        tell("stopping");
        kill(-workload, SIGTERM);
    } else if (strcmp(word, "freeze") == 0) {
        if (command_server > 0)
            kill(command_server, SIGKILL);
        freeze_workload(workload);
        tell("frozen");
    } else if (strcmp(word, "renew") == 0 && rest != NULL) {
        renew_guest(workload, rest);
    } else if (strcmp(word, "commands") == 0 && rest != NULL) {
        /* Whoever asks anew has given the last one up. */
        if (command_server > 0)
            kill(command_server, SIGKILL);
        command_server = start_command_server(rest);
    }
}

/* What the host says, line by line. */
static void listen_to_host(pid_t workload)
{
    static char text[LINE_MAXIMUM];
    static size_t length;
    ssize_t got = read(marks, text + length, sizeof text - length);
    if (got <= 0)
        return;
    length += (size_t)got;
    char *end;
    while ((end = memchr(text, '\n', length)) != NULL) {
        size_t whole = (size_t)(end - text) + 1;
        *end = '\0';
        obey(workload, text);
        length -= whole;
        memmove(text, text + whole, length);
    }
    if (length == sizeof text)
        length = 0;
}

/* Waits for the workload's end or for a word from the host, whichever comes; SIGCHLD is blocked. */
static _Noreturn void supervise(pid_t workload)
{
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    int children = signalfd(-1, &child_signal, SFD_CLOEXEC);
    if (children < 0)
        fail("signalfd", "SIGCHLD");
    struct pollfd events[] = {{.fd = children, .events = POLLIN}, {.fd = marks, .events = POLLIN}};
    while (!workload_ended(workload)) {
        if (poll(events, 2, -1) < 0)
            continue;
        if (events[0].revents) {
            struct signalfd_siginfo information;
            ssize_t ignored = read(children, &information, sizeof information);
            (void)ignored;
        }
        if (events[1].revents)
            listen_to_host(workload);
    }
    power_off();
}

int main(void)
{
    int marked = mark_first_instruction();
    marks = open_serial("/dev/ttyS1", O_RDWR);
    if (!marked)
        tell("kernel tty");
    output = open_serial("/dev/ttyS2", O_WRONLY);
    if (output < 0)
        fail("open", "/dev/ttyS2");
    struct workload workload;
    read_workload(&workload);
    int placing = workload.files[0] != NULL;
    load_modules(placing || disk_is_writable());
    if (placing)
        hold_files();
    enter_disk_root(placing);
    mount_file_systems();
    sethostname(workload.host_name, strlen(workload.host_name));
    set_up_network();
    if (placing)
        place_files(workload.files);
    apply_limits(workload.limits);
    supervise(start_workload(&workload));
}
