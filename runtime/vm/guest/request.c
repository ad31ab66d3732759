/* What the host asks of a live guest, and the process that does it; see commands.c. */
#define _GNU_SOURCE
#include "request.h"

#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUEST_MAGIC "pybench-command-1"
#define FIELDS_MAXIMUM 4096

static char *next_field(char **position, const char *end)
{
    char *field = *position;
    if (field >= end)
        return NULL;
    *position += strlen(field) + 1;
    return field;
}

static char **next_list(char **position, const char *end)
{
    const char *counted = next_field(position, end);
    size_t count = counted ? strtoul(counted, NULL, 10) : FIELDS_MAXIMUM + 1;
    if (count > FIELDS_MAXIMUM)
        return NULL;
    char **list = calloc(count + 1, sizeof *list);
    for (size_t index = 0; list != NULL && index < count; index++) {
        if ((list[index] = next_field(position, end)) == NULL) {
            free(list);
            return NULL;
        }
    }
    return list;
}

int parse_request(char *text, size_t length, struct request *request)
{
    char *position = text;
    const char *end = text + length, *field;
    memset(request, 0, sizeof *request);
    if ((field = next_field(&position, end)) == NULL || strcmp(field, REQUEST_MAGIC) != 0)
        return -1;
    if ((request->action = next_field(&position, end)) == NULL)
        return -1;
    if ((field = next_field(&position, end)) == NULL)
        return -1;
    request->privileged = strcmp(field, "privileged") == 0;
    if ((field = next_field(&position, end)) == NULL)
        return -1;
    request->terminal = strcmp(field, "terminal") == 0;
    if ((field = next_field(&position, end)) == NULL)
        return -1;
    request->size.ws_row = (unsigned short)strtoul(field, NULL, 10);
    if ((field = next_field(&position, end)) == NULL)
        return -1;
    request->size.ws_col = (unsigned short)strtoul(field, NULL, 10);
    if ((request->directory = next_field(&position, end)) == NULL)
        return -1;
    request->arguments = next_list(&position, end);
    request->environment = request->arguments ? next_list(&position, end) : NULL;
    return request->environment && request->arguments[0] ? 0 : -1;
}

/* From one descriptor to the other until the end; -1 and errno on failure. */
static int copy_all(int source, int target)
{
    static char buffer[64 * 1024];
    ssize_t got;
    while ((got = read(source, buffer, sizeof buffer)) > 0) {
        for (ssize_t done = 0; done < got;) {
            ssize_t written = write(target, buffer + done, (size_t)(got - done));
            if (written < 0)
                return -1;
            done += written;
        }
    }
    return got < 0 ? -1 : 0;
}

/* What execve does to the gate: from now on failures are the command's own. */
static void report_start(int gate)
{
    report_failures_to(STDERR_FILENO);
    close(gate);
}

static _Noreturn void read_one_file(const char *path, int gate)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0 || fstat(file, &status) != 0)
        fail("open", path);
    if (!S_ISREG(status.st_mode)) {
        errno = EINVAL;
        fail("not a regular file:", path);
    }
    report_start(gate);
    if (copy_all(file, STDOUT_FILENO) != 0)
        fail("read", path);
    _exit(0);
}

/* Written aside and renamed, so that a transfer that breaks off leaves the old file. */
static _Noreturn void write_one_file(const char *path, const char *mode, int gate)
{
    char aside[4096];
    if (snprintf(aside, sizeof aside, "%s.pybench", path) >= (int)sizeof aside) {
        errno = ENAMETOOLONG;
        fail("open", path);
    }
    int file = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        fail("open", aside);
    report_start(gate);
    if (copy_all(STDIN_FILENO, file) != 0 || fchmod(file, mode ? (mode_t)strtoul(mode, NULL, 8) : 0644) != 0) {
        int error = errno;
        unlink(aside);
        errno = error;
        fail("write", path);
    }
    if (rename(aside, path) != 0)
        fail("rename", path);
    _exit(0);
}

_Noreturn void become_command(const struct request *request, const int streams[3], int gate)
{
    sigset_t none;
    sigemptyset(&none);
    setsid();
    report_failures_to(gate);
    for (int stream = 0; stream < 3; stream++)
        if (dup2(streams[stream], stream) < 0)
            fail("dup2", "standard streams");
    if (request->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0)
        fail("TIOCSCTTY", "terminal");
    if (strcmp(request->action, "read") == 0)
        read_one_file(request->arguments[0], gate);
    if (strcmp(request->action, "write") == 0)
        write_one_file(request->arguments[0], request->arguments[1], gate);
    if (access(CGROUP_WORKLOAD "/cgroup.procs", W_OK) == 0)
        write_file(CGROUP_WORKLOAD "/cgroup.procs", "0");
    if (chdir(request->directory) != 0)
        fail("chdir", request->directory);
    if (!request->privileged)
        drop_privileges();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    environ = request->environment;
    execvp(request->arguments[0], request->arguments);
    fail("execve", request->arguments[0]);
}
