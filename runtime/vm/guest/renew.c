/*
 * Two guests restored from one saved state are the same guest twice: they would draw the same random
 * numbers, answer to the same name and believe in the same time. What the host sends before the workload
 * goes on makes each of them one of its own.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* From <linux/random.h>, which a musl tool chain does not bring along. */
#define RNDADDENTROPY _IOW('R', 0x03, int[2])
#define RNDRESEEDCRNG _IO('R', 0x07)

#define SEED_BYTES 32
#define FREEZER CGROUP_WORKLOAD "/cgroup.freeze"
#define INTERFACE "eth0"

void freeze_workload(pid_t workload)
{
    if (access(FREEZER, W_OK) == 0)
        write_file(FREEZER, "1");
    else
        kill(-workload, SIGSTOP);
}

static void thaw_workload(pid_t workload)
{
    if (access(FREEZER, W_OK) == 0)
        write_file(FREEZER, "0");
    else
        kill(-workload, SIGCONT);
}

/* `count` bytes from twice as many hexadecimal digits; -1 if they are none. */
static int parse_bytes(const char *text, unsigned char *bytes, size_t count, const char *separator)
{
    for (size_t index = 0; index < count; index++) {
        unsigned int byte;
        if (sscanf(text, "%2x", &byte) != 1)
            return -1;
        bytes[index] = (unsigned char)byte;
        text += 2;
        if (index + 1 < count && strncmp(text, separator, strlen(separator)) != 0)
            return -1;
        text += index + 1 < count ? strlen(separator) : 0;
    }
    return *text == '\0' ? 0 : -1;
}

/* The pool takes the seed for what it is, and the generator throws away all that it had (random(4)). */
static void renew_randomness(const char *seed)
{
    struct {
        int entropy_count;
        int buf_size;
        unsigned char buf[SEED_BYTES];
    } entropy = {.entropy_count = SEED_BYTES * 8, .buf_size = SEED_BYTES};
    int device = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (parse_bytes(seed, entropy.buf, SEED_BYTES, "") != 0) {
        errno = EBADMSG;
        fail("read", "seed");
    }
    if (device < 0 || ioctl(device, RNDADDENTROPY, &entropy) != 0)
        fail("RNDADDENTROPY", "/dev/urandom");
    if (ioctl(device, RNDRESEEDCRNG) != 0)
        fail("RNDRESEEDCRNG", "/dev/urandom");
    close(device);
    memset(&entropy, 0, sizeof entropy);
}

static void renew_clock(const char *nanoseconds)
{
    long long now = strtoll(nanoseconds, NULL, 10);
    struct timespec time = {.tv_sec = now / 1000000000, .tv_nsec = now % 1000000000};
    if (clock_settime(CLOCK_REALTIME, &time) != 0)
        fail("clock_settime", "CLOCK_REALTIME");
}

/* A file with this one line in it; where the file system is read-only, over the file that is there. */
static void renew_file(const char *path, const char *aside, const char *line)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0444);
    int over = file < 0 && access(path, F_OK) == 0;
    if (over)
        file = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (file < 0)
        return; /* An image without a place for it has nobody who looks there. */
    dprintf(file, "%s\n", line);
    close(file);
    if (over && mount(aside, path, NULL, MS_BIND, NULL) != 0)
        fail("mount", path);
}

static void renew_hardware_address(const char *address)
{
    struct ifreq request = {.ifr_name = INTERFACE};
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (parse_bytes(address, (unsigned char *)request.ifr_hwaddr.sa_data, 6, ":") != 0) {
        errno = EBADMSG;
        fail("read", "hardware address");
    }
    if (control < 0 || ioctl(control, SIOCSIFHWADDR, &request) != 0)
        fail("SIOCSIFHWADDR", INTERFACE);
    close(control);
}

void renew_guest(pid_t workload, char *fields)
{
    char *seed = strtok(fields, " "), *now = strtok(NULL, " "), *host = strtok(NULL, " ");
    char *machine = strtok(NULL, " "), *boot = strtok(NULL, " ");
    char *hardware = strtok(NULL, " "), *address = strtok(NULL, " ");
    tell("restored");
    if (address == NULL) {
        errno = EBADMSG;
        fail("read", "identity");
    }
    renew_randomness(seed);
    renew_clock(now);
    if (sethostname(host, strlen(host)) != 0)
        fail("sethostname", host);
    renew_file("/etc/machine-id", "/run/pybench-machine-id", machine);
    renew_file("/proc/sys/kernel/random/boot_id", "/run/pybench-boot-id", boot);
    if (strcmp(hardware, "-") != 0)
        renew_hardware_address(hardware);
    if (strcmp(address, "-") != 0)
        change_address(address);
    thaw_workload(workload);
    tell("renewed");
}
