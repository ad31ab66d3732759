#define _GNU_SOURCE
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int receive_descriptor(int link)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control = {0};
    char byte;
    struct iovec content = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &content, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    const int flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    ssize_t received = recvmsg(link, &message, flags);
    /* Told once, before the message, of a child that has not read its go-ahead: it had no maps to wait for. */
    if (received < 0 && errno == ECONNRESET)
        received = recvmsg(link, &message, flags);
    if (received <= 0)
        return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int descriptor = -1;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&descriptor, CMSG_DATA(header), sizeof(descriptor));
    return descriptor;
}

const char *take_listener(int link, int place, int supervisor)
{
    int received = receive_descriptor(link);
    if (received < 0)
        return NULL; /* the child failed before it had one */
    struct epoll_event event = {.events = EPOLLIN, .data.fd = place};
    const char *failed_call = NULL;
    if (dup3(received, place, O_CLOEXEC) < 0)
        failed_call = "dup3 of the listener";
    else if (epoll_ctl(supervisor, EPOLL_CTL_ADD, place, &event) < 0)
        failed_call = "epoll_ctl of the listener";
    close(received);
    return failed_call;
}
