/* What the parts of the guest's init share. */
#ifndef PYBENCH_GUEST_H
#define PYBENCH_GUEST_H

#include <sys/types.h>

#define CGROUP_WORKLOAD "/sys/fs/cgroup/workload"

/* One line to the host, in one write so that lines of different processes cannot mix. */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tells the host which call failed on what, by errno; then the process ends, and with init the guest. */
_Noreturn void fail(const char *call, const char *subject);

/* In a child: have `tell` and `fail` write to `descriptor`, and a failure end this process alone. */
void report_failures_to(int descriptor);

/* A serial line that carries bytes as they are; -1 and errno on failure. */
int open_serial(const char *path, int flags);

/* Write `value` to an existing file, or fail. */
void write_file(const char *path, const char *value);

/* Mount on a directory that is made if need be, or fail. */
void mount_at(const char *source, const char *path, const char *type, unsigned long flags, const char *options);

/* Whether the image is a disk with a layer above it that takes what is written; see root.c. */
int disk_is_writable(void);

/*
 * Make the image's disk the root, if the image has one: what was in the initramfs is out of reach from
 * then on, but for what is open. Its modules have to be loaded before, and nothing may be mounted yet. With
 * `layered` init itself can write to it until `seal_root`.
 */
void enter_disk_root(int layered);

/* Take back what a disk that is read-only was layered for. */
void seal_root(void);

/* Keep the workload's files within reach of `place_files`; see files.c. */
void hold_files(void);

/* Put them where they belong, read-only; `files` are pairs of path and mode, ended by NULL. */
void place_files(char **files);

/* Who the workload is: user, group and further groups, as decimal numbers; root where there are none. */
void set_identity(char **numbers, size_t count);

/* Become the workload's user without any capability, for good; see identity.c. */
void drop_privileges(void);

/* Raise the loopback interface, and the guest's own with the address that the host has given it. */
void set_up_network(void);

/* Give the guest's own interface another address than it has; `text` is one with the length of its prefix. */
void change_address(char *text);

/* Have the workload stand still, so that a state saved now has it between two instructions. */
void freeze_workload(pid_t workload);

/* In a guest that was restored: take on the identity in `fields`, let the workload go on; see renew.c. */
void renew_guest(pid_t workload, char *fields);

/* Starts the process that runs commands for the host; see commands.c. */
pid_t start_command_server(const char *nonce);

#endif
