/*
 * One TCP connection, on which the client asks for echoes, for bytes, or to take bytes. Each request is
 * answered before the next one, so that a batch is over when both sides have seen all of it.
 */
#define _GNU_SOURCE
#include "measure.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 128 << 10, PATIENCE = 30, BACKLOG = 16 };

enum { ECHO = 'e', SEND = 's', TAKE = 't' };

struct request {
    uint8_t action;
    uint8_t unused[7];
    uint64_t count; /* of echoes or blocks; in the byte order of the network */
};

static int connection = -1;
static unsigned char *block;
static pid_t server;

/* Returns 0, or -1 with errno where the other side is gone or silent for PATIENCE seconds. */
static int receive(int descriptor, void *data, size_t size)
{
    unsigned char *rest = data;
    while (size > 0) {
        ssize_t count = recv(descriptor, rest, size, 0);
        if (count == 0)
            errno = ECONNRESET;
        if (count == 0 || (count < 0 && errno != EINTR))
            return -1;
        if (count > 0) {
            rest += count;
            size -= (size_t)count;
        }
    }
    return 0;
}

static int send_all(int descriptor, const void *data, size_t size)
{
    const unsigned char *rest = data;
    while (size > 0) {
        ssize_t count = send(descriptor, rest, size, MSG_NOSIGNAL);
        if (count < 0 && errno != EINTR)
            return -1;
        if (count > 0) {
            rest += count;
            size -= (size_t)count;
        }
    }
    return 0;
}

static void tune(int descriptor)
{
    const int one = 1;
    const struct timeval patience = {.tv_sec = PATIENCE};
    if (setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
        fail("setsockopt", "the connection");
}

static int answer(int client, const struct request *request)
{
    uint64_t count = be64toh(request->count);
    char byte = 0;
    for (uint64_t done = 0; done < count; done++) {
        int failed = 0;
        if (request->action == ECHO)
            failed = receive(client, &byte, 1) != 0 || send_all(client, &byte, 1) != 0;
        else if (request->action == SEND)
            failed = send_all(client, block, BLOCK) != 0;
        else
            failed = receive(client, block, BLOCK) != 0;
        if (failed)
            return -1;
    }
    return request->action == TAKE ? send_all(client, &byte, 1) : 0;
}

static void serve_client(int client)
{
    struct request request;
    tune(client);
    while (receive(client, &request, sizeof request) == 0 && strchr("est", request.action) != NULL &&
           request.action != 0 && answer(client, &request) == 0)
        ;
    close(client);
}

static int listen_on(struct in_addr address, uint16_t port)
{
    const int one = 1;
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(listener, (struct sockaddr *)&place, sizeof place) != 0 || listen(listener, BACKLOG) != 0)
        fail("listen", "for clients");
    block = filled_buffer(BLOCK);
    return listener;
}

static _Noreturn void accept_clients(int listener)
{
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0)
            serve_client(client);
        else if (errno != EINTR && errno != ECONNABORTED)
            fail("accept", "a client");
    }
}

static void leave(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

_Noreturn void serve(const struct options *options)
{
    /* It may be the first process of a PID namespace, which only gets signals that have a handler. */
    struct sigaction action = {.sa_handler = leave};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct in_addr address = {htonl(INADDR_ANY)};
    if (options->address != NULL && inet_pton(AF_INET, options->address, &address) != 1) {
        errno = EINVAL;
        fail("--address", options->address);
    }
    int listener = listen_on(address, options->port);
    puts("listening");
    fflush(stdout);
    accept_clients(listener);
}

/* A server of our own on the loopback interface, which ends with this process; fills in where it is. */
static void start_server(struct sockaddr_in *place)
{
    socklen_t size = sizeof *place;
    int listener = listen_on((struct in_addr){htonl(INADDR_LOOPBACK)}, 0);
    if (getsockname(listener, (struct sockaddr *)place, &size) != 0)
        fail("getsockname", "the server");
    pid_t parent = getpid();
    server = fork();
    if (server < 0)
        fail("fork", "the server");
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            accept_clients(listener);
        _exit(0);
    }
    close(listener);
}

static void set_up_client(const struct options *options)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    if (options->address == NULL) {
        start_server(&place);
    } else if (inet_pton(AF_INET, options->address, &place.sin_addr) != 1 || options->port == 0) {
        errno = EINVAL;
        fail("--address, --port", options->address);
    } else {
        block = filled_buffer(BLOCK);
    }
    connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0)
        fail("socket", "AF_INET");
    tune(connection);
    if (connect(connection, (struct sockaddr *)&place, sizeof place) != 0)
        fail("connect", options->address ? options->address : "the server");
}

static void ask(uint8_t action, uint64_t count)
{
    struct request request = {.action = action, .count = htobe64(count)};
    if (send_all(connection, &request, sizeof request) != 0)
        fail("send", "a request");
}

static uint64_t run_echoes(uint64_t operations)
{
    uint64_t checksum = 0;
    ask(ECHO, operations);
    while (operations-- > 0) {
        unsigned char byte = (unsigned char)operations, echoed;
        uint64_t start = now();
        if (send_all(connection, &byte, 1) != 0 || receive(connection, &echoed, 1) != 0)
            fail("recv", "an echo");
        record_latency(now() - start);
        if (echoed != byte) {
            errno = EPROTO;
            fail("recv", "the byte that was sent");
        }
        checksum += echoed;
    }
    return checksum;
}

static uint64_t run_receive(uint64_t operations)
{
    uint64_t checksum = 0;
    ask(SEND, operations);
    while (operations-- > 0) {
        if (receive(connection, block, BLOCK) != 0)
            fail("recv", "a block");
        checksum += block[0];
    }
    return checksum;
}

static uint64_t run_send(uint64_t operations)
{
    unsigned char taken;
    uint64_t checksum = 0;
    ask(TAKE, operations);
    while (operations-- > 0) {
        if (send_all(connection, block, BLOCK) != 0)
            fail("send", "a block");
        checksum += block[0];
    }
    if (receive(connection, &taken, 1) != 0)
        fail("recv", "that all blocks have arrived");
    return checksum;
}

static void end_client(void)
{
    close(connection);
    if (server == 0)
        return;
    kill(server, SIGKILL);
    while (waitpid(server, NULL, 0) < 0 && errno == EINTR)
        ;
}

const struct kind network_kinds[] = {
    {"network.latency", 1, set_up_client, run_echoes, end_client, 1},
    {"network.receive", BLOCK, set_up_client, run_receive, end_client, 0},
    {"network.send", BLOCK, set_up_client, run_send, end_client, 0},
    {0},
};
