/*
 * The guest's one network interface. Its address comes on the kernel's command line, whose unknown
 * variables the kernel hands to init as its environment (Documentation/admin-guide/kernel-parameters.rst).
 */
#define _GNU_SOURCE
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define INTERFACE "eth0"
#define SETTINGS "/proc/sys/net/ipv4/"

static struct sockaddr socket_address(in_addr_t address)
{
    struct sockaddr_in internet = {.sin_family = AF_INET, .sin_addr.s_addr = address};
    struct sockaddr generic;
    memcpy(&generic, &internet, sizeof generic);
    return generic;
}

static in_addr_t parse_address(const char *text)
{
    struct in_addr address;
    if (inet_pton(AF_INET, text, &address) != 1) {
        errno = EINVAL;
        fail("inet_pton", text);
    }
    return address.s_addr;
}

static void raise_interface(int control, const char *name)
{
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    if (ioctl(control, SIOCGIFFLAGS, &request) != 0)
        fail("SIOCGIFFLAGS", name);
    request.ifr_flags |= IFF_UP;
    if (ioctl(control, SIOCSIFFLAGS, &request) != 0)
        fail("SIOCSIFFLAGS", name);
}

/* `text` is an address with the length of its prefix. */
static void give_address(int control, char *text)
{
    struct ifreq request = {.ifr_name = INTERFACE};
    char *slash = strchr(text, '/');
    unsigned long length = slash ? strtoul(slash + 1, NULL, 10) : 32;
    if (slash)
        *slash = '\0';
    request.ifr_addr = socket_address(parse_address(text));
    if (ioctl(control, SIOCSIFADDR, &request) != 0)
        fail("SIOCSIFADDR", INTERFACE);
    request.ifr_netmask = socket_address(htonl(length ? UINT32_MAX << (32 - length) : 0));
    if (ioctl(control, SIOCSIFNETMASK, &request) != 0)
        fail("SIOCSIFNETMASK", INTERFACE);
}

void change_address(char *text)
{
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0)
        fail("socket", "AF_INET");
    give_address(control, text);
    close(control);
}

static void route_through(int control, const char *gateway)
{
    struct rtentry route = {
        .rt_dst = socket_address(INADDR_ANY),
        .rt_genmask = socket_address(INADDR_ANY),
        .rt_gateway = socket_address(parse_address(gateway)),
        .rt_flags = RTF_UP | RTF_GATEWAY,
    };
    if (ioctl(control, SIOCADDRT, &route) != 0)
        fail("SIOCADDRT", gateway);
}

/* As in a container: the workload has no capability, and may bind every port of its own network and ping. */
static void allow(const char *setting, const char *value)
{
    if (access(setting, W_OK) == 0)
        write_file(setting, value);
}

void set_up_network(void)
{
    char *address = getenv("PYBENCH_ADDRESS"), *gateway = getenv("PYBENCH_GATEWAY");
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0)
        fail("socket", "AF_INET");
    raise_interface(control, "lo");
    if (address != NULL) {
        give_address(control, address);
        raise_interface(control, INTERFACE);
    }
    if (gateway != NULL)
        route_through(control, gateway);
    allow(SETTINGS "ip_unprivileged_port_start", "0");
    allow(SETTINGS "ping_group_range", "0 2147483647");
    close(control);
}
