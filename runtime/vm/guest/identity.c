/* Who the workload is, and with it every command that the host runs beside it. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <grp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From <linux/capability.h>, which a musl tool chain does not bring along. */
#define CAPABILITY_VERSION_3 0x20080522
struct capability_header {
    uint32_t version;
    int process;
};
struct capability_data {
    uint32_t effective, permitted, inheritable;
};

static uid_t user;
static gid_t group;
static gid_t *groups;
static size_t groups_count;

void set_identity(char **numbers, size_t count)
{
    if (count == 0)
        return;
    if (count == 1 || (groups = calloc(count, sizeof *groups)) == NULL) {
        errno = EBADMSG;
        fail("read", "/.pybench/workload: identity");
    }
    user = (uid_t)strtoul(numbers[0], NULL, 10);
    group = (gid_t)strtoul(numbers[1], NULL, 10);
    groups_count = count - 2;
    for (size_t index = 0; index < groups_count; index++)
        groups[index] = (gid_t)strtoul(numbers[index + 2], NULL, 10);
}

/*
 * Root stays root, but without any capability: with an empty bounding set not even execve as uid 0 gives
 * one back (capabilities(7), "Capabilities and execution of programs by root").
 */
void drop_privileges(void)
{
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            fail("prctl", "PR_CAPBSET_DROP");
    if (setgroups(groups_count, groups) != 0)
        fail("setgroups", "the workload's");
    if (setresgid(group, group, group) != 0)
        fail("setresgid", "the workload's");
    if (setresuid(user, user, user) != 0)
        fail("setresuid", "the workload's");
    struct capability_header header = {.version = CAPABILITY_VERSION_3};
    struct capability_data none[2] = {{0, 0, 0}, {0, 0, 0}};
    if (syscall(SYS_capset, &header, none) != 0)
        fail("capset", "none");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail("prctl", "PR_SET_NO_NEW_PRIVS");
}
