/*
 * Commands in a live guest: a process beside the workload that runs them for the host, one at a time.
 *
 * init starts it when the host says `commands <nonce>` on the line of marks; a start that needs no
 * commands pays nothing for it. It opens the fastest channel that it can (a virtio port called
 * `pybench.commands`, else the serial line ttyS3), says which on the line of marks, and on the
 * channel itself the nonce, which the host repeats: whatever an earlier session left behind in
 * either direction ends there.
 *
 * Then frames go both ways (runtime/vm/protocol.py): kind, zero, length of the payload, number of the
 * session; little-endian. A request comes in pieces, is begun, and is answered by STARTED or FAILED.
 * The host sends requests and input no further ahead than WINDOW bytes, and CREDIT tells it what was
 * used up: a serial line has no other flow control in this direction.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "request.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"
#define PORT_NAME "pybench.commands"
#define SERIAL_LINE "/dev/ttyS3"
#define REQUEST_MAXIMUM (256 * 1024)
#define PAYLOAD_MAXIMUM 4096
#define WINDOW (16 * 1024)

enum { REQUEST = 1, BEGIN, INPUT, INPUT_END, RESIZE, SIGNAL };        /* from the host */
enum { STARTED = 16, FAILED, OUTPUT, ERRORS, CREDIT, EXITED, KILLED }; /* to the host */

struct header {
    uint8_t kind, zero;
    uint16_t length;
    uint32_t session;
};

static int channel = -1;

static struct {
    uint32_t number;
    pid_t process; /* 0 while there is none */
    int ended;     /* it was reaped, and `status` says how */
    int status;
    int input, output, errors; /* our ends; for a terminal the first two are the same */
    int input_over;
    unsigned char pending[WINDOW]; /* input that the command has not read yet */
    size_t pending_length;
    char text[REQUEST_MAXIMUM + 1]; /* the request so far */
    size_t text_length;
} session;

/* ---- frames ---- */

static void write_channel(const void *data, size_t length)
{
    const char *position = data;
    while (length > 0) {
        ssize_t written = write(channel, position, length);
        if (written < 0 && errno != EINTR && errno != EAGAIN)
            _exit(1); /* The host is gone; init offers a new server to the next one. */
        if (written > 0) {
            position += written;
            length -= (size_t)written;
        }
    }
}

static void send_frame(uint8_t kind, const void *payload, size_t length)
{
    unsigned char frame[sizeof(struct header) + PAYLOAD_MAXIMUM];
    if (length > PAYLOAD_MAXIMUM)
        length = PAYLOAD_MAXIMUM;
    struct header header = {kind, 0, (uint16_t)length, session.number};
    memcpy(frame, &header, sizeof header);
    if (length > 0)
        memcpy(frame + sizeof header, payload, length);
    write_channel(frame, sizeof header + length);
}

static void send_credit(uint32_t bytes)
{
    send_frame(CREDIT, &bytes, sizeof bytes);
}

static void send_failure(const char *call, const char *subject)
{
    char text[256];
    int length = snprintf(text, sizeof text, "%s %s: %s", call, subject, strerror(errno));
    send_frame(FAILED, text, length < (int)sizeof text ? (size_t)length : sizeof text - 1);
}

/* ---- the server ---- */

static void close_input(void)
{
    if (session.input >= 0 && session.input != session.output)
        close(session.input);
    session.input = -1;
    session.pending_length = 0;
}

static void forget_session(void)
{
    close_input();
    if (session.output >= 0)
        close(session.output);
    if (session.errors >= 0)
        close(session.errors);
    session.input = session.output = session.errors = -1;
    session.process = 0;
    session.ended = session.input_over = 0;
    session.text_length = 0;
}

static int open_terminal(const struct winsize *size, int *inside)
{
    if (mkdir("/dev/pts", 0755) == 0 || access("/dev/pts/ptmx", F_OK) != 0)
        mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666");
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0)
        return -1;
    const char *name;
    if (unlockpt(terminal) != 0 || (name = ptsname(terminal)) == NULL ||
        (*inside = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
        close(terminal);
        return -1;
    }
    ioctl(terminal, TIOCSWINSZ, size);
    return terminal;
}

/* The command's three streams: `ours` at this end, `theirs` at its end. */
static int open_streams(const struct request *request, int ours[3], int theirs[3])
{
    int ends[2];
    if (request->terminal) {
        if ((ours[0] = ours[1] = open_terminal(&request->size, &theirs[0])) < 0)
            return -1;
        theirs[1] = theirs[2] = theirs[0];
        return 0;
    }
    for (int stream = 0; stream < 3; stream++) {
        if (pipe2(ends, O_CLOEXEC) != 0)
            return -1;
        ours[stream] = ends[stream == 0];
        theirs[stream] = ends[stream != 0];
    }
    return 0;
}

static void close_streams(int streams[3])
{
    for (int stream = 0; stream < 3; stream++)
        if (streams[stream] >= 0 && (stream == 0 || streams[stream] != streams[stream - 1]))
            close(streams[stream]);
}

/* Whether the child got as far as execve shows as the end of a close-on-exec pipe with nothing in it. */
static void await_start(int gate)
{
    char text[256];
    size_t length = 0;
    ssize_t got;
    while (length < sizeof text && (got = read(gate, text + length, sizeof text - length)) > 0)
        length += (size_t)got;
    if (length == 0) {
        send_frame(STARTED, NULL, 0);
        return;
    }
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '!'))
        length--;
    send_frame(FAILED, text, length);
    waitpid(session.process, NULL, 0);
    forget_session();
}

static void begin(void)
{
    struct request request;
    int gate[2], ours[3] = {-1, -1, -1}, theirs[3] = {-1, -1, -1};
    session.text[session.text_length] = '\0';
    if (parse_request(session.text, session.text_length, &request) != 0) {
        errno = EBADMSG;
        send_failure("read", "request");
        return;
    }
    if (open_streams(&request, ours, theirs) != 0 || pipe2(gate, O_CLOEXEC) != 0) {
        send_failure("open", request.terminal ? "terminal" : "pipe");
        close_streams(ours);
        close_streams(theirs);
        return;
    }
    pid_t process = fork();
    if (process == 0) {
        close_streams(ours); /* Not every action executes a program; its input would never end. */
        become_command(&request, theirs, gate[1]);
    }
    close_streams(theirs);
    close(gate[1]);
    free(request.arguments);
    free(request.environment);
    session.process = process;
    session.input = ours[0];
    session.output = ours[1];
    session.errors = ours[2];
    if (process < 0) {
        send_failure("fork", "command");
        forget_session();
    } else {
        fcntl(session.input, F_SETFL, O_NONBLOCK);
        fcntl(session.output, F_SETFL, O_NONBLOCK);
        if (session.errors >= 0)
            fcntl(session.errors, F_SETFL, O_NONBLOCK);
        await_start(gate[0]);
    }
    close(gate[0]);
}

/* As much pending input as the command takes now. */
static void feed(void)
{
    while (session.input >= 0 && session.pending_length > 0) {
        ssize_t written = write(session.input, session.pending, session.pending_length);
        if (written < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (written < 0) {
            send_credit((uint32_t)session.pending_length); /* It does not want it: so it is used up. */
            close_input();
            return;
        }
        session.pending_length -= (size_t)written;
        memmove(session.pending, session.pending + written, session.pending_length);
        send_credit((uint32_t)written);
    }
    if (session.input_over && session.input >= 0 && session.input != session.output)
        close_input();
}

static void take_input(const unsigned char *payload, size_t length)
{
    if (session.input < 0) {
        send_credit((uint32_t)length);
        return;
    }
    if (session.pending_length + length > WINDOW)
        _exit(1); /* The host does not keep to the protocol. */
    memcpy(session.pending + session.pending_length, payload, length);
    session.pending_length += length;
    feed();
}

static void take_frame(const struct header *header, const unsigned char *payload)
{
    if (header->session != session.number) {
        /* A new session ends the one before, whatever became of it. */
        if (session.process > 0) {
            kill(-session.process, SIGKILL);
            waitpid(session.process, NULL, 0);
        }
        forget_session();
        session.number = header->session;
    }
    switch (header->kind) {
    case REQUEST:
        if (session.text_length + header->length > REQUEST_MAXIMUM)
            _exit(1);
        memcpy(session.text + session.text_length, payload, header->length);
        session.text_length += header->length;
        send_credit(header->length);
        break;
    case BEGIN:
        if (session.process == 0)
            begin();
        break;
    case INPUT:
        take_input(payload, header->length);
        break;
    case INPUT_END:
        session.input_over = 1;
        feed();
        break;
    case RESIZE:
        if (header->length == 4 && session.input >= 0) {
            struct winsize size = {0};
            memcpy(&size.ws_row, payload, 2);
            memcpy(&size.ws_col, payload + 2, 2);
            ioctl(session.input, TIOCSWINSZ, &size);
        }
        break;
    case SIGNAL:
        if (header->length == 1 && session.process > 0 && !session.ended)
            kill(-session.process, payload[0]);
        break;
    default:
        _exit(1);
    }
}

/* What came in: whole frames are taken, the rest waits for its end. */
static void take_in(void)
{
    static unsigned char buffer[sizeof(struct header) + PAYLOAD_MAXIMUM];
    static size_t length;
    ssize_t got = read(channel, buffer + length, sizeof buffer - length);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0)
        _exit(0); /* The host has closed the port. */
    length += (size_t)got;
    for (;;) {
        struct header header;
        if (length < sizeof header)
            return;
        memcpy(&header, buffer, sizeof header);
        if (header.zero != 0 || header.length > PAYLOAD_MAXIMUM)
            _exit(1);
        size_t whole = sizeof header + header.length;
        if (length < whole)
            return;
        take_frame(&header, buffer + sizeof header);
        length -= whole;
        memmove(buffer, buffer + whole, length);
    }
}

/* One piece of what the command printed; at its end, or at a terminal's hang-up, the stream is closed. */
static int pass_on(int *stream, uint8_t kind)
{
    char data[PAYLOAD_MAXIMUM];
    ssize_t got = read(*stream, data, sizeof data);
    if (got > 0) {
        send_frame(kind, data, (size_t)got);
        return 1;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (stream == &session.output && session.input == session.output)
        session.input = -1;
    close(*stream);
    *stream = -1;
    return 0;
}

/* The command has ended: so do its streams, whoever else still holds them, and the rest of its group. */
static void end_session(void)
{
    kill(-session.process, SIGKILL);
    /* Bounded by what pipes hold: one that left the group may go on printing for ever. */
    for (int pieces = 0; pieces < 64 && session.output >= 0 && pass_on(&session.output, OUTPUT); pieces++)
        ;
    for (int pieces = 0; pieces < 64 && session.errors >= 0 && pass_on(&session.errors, ERRORS); pieces++)
        ;
    uint8_t number = (uint8_t)(WIFSIGNALED(session.status) ? WTERMSIG(session.status) : WEXITSTATUS(session.status));
    send_frame(WIFSIGNALED(session.status) ? KILLED : EXITED, &number, 1);
    forget_session();
}

static _Noreturn void serve(int children)
{
    for (;;) {
        struct pollfd events[] = {
            {.fd = channel, .events = POLLIN},
            {.fd = children, .events = POLLIN},
            {.fd = session.output, .events = POLLIN},
            {.fd = session.errors, .events = POLLIN},
            {.fd = session.pending_length > 0 ? session.input : -1, .events = POLLOUT},
        };
        if (poll(events, 5, -1) < 0)
            continue;
        if (events[1].revents) {
            struct signalfd_siginfo information;
            ssize_t ignored = read(children, &information, sizeof information);
            (void)ignored;
            if (session.process > 0 && waitpid(session.process, &session.status, WNOHANG) == session.process)
                session.ended = 1;
        }
        if (session.output >= 0 && events[2].revents)
            pass_on(&session.output, OUTPUT);
        if (session.errors >= 0 && events[3].revents)
            pass_on(&session.errors, ERRORS);
        if (events[4].revents)
            feed();
        if (session.ended)
            end_session();
        if (events[0].revents)
            take_in();
    }
}

/* The virtio port of ours, by the name that the host gave it; -1 where there is none. */
static int open_port(void)
{
    DIR *ports = opendir(PORTS);
    struct dirent *entry;
    int port = -1;
    while (ports != NULL && port < 0 && (entry = readdir(ports)) != NULL) {
        char path[sizeof PORTS + 264], name[64] = "";
        snprintf(path, sizeof path, PORTS "/%s/name", entry->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        ssize_t ignored = read(file, name, sizeof name - 1);
        (void)ignored;
        close(file);
        name[strcspn(name, "\n")] = '\0';
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (strcmp(name, PORT_NAME) == 0)
            port = open(path, O_RDWR | O_CLOEXEC);
    }
    if (ports != NULL)
        closedir(ports);
    return port;
}

/* Both sides say the nonce, so that neither takes what is left of an earlier session for this one's. */
static void synchronise(const char *nonce)
{
    size_t length = strlen(nonce), matched = 0;
    write_channel(nonce, length);
    while (matched < length) {
        char byte;
        ssize_t got = read(channel, &byte, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            _exit(0);
        /* A nonce begins with a character that is nowhere else in it. */
        matched = byte == nonce[matched] ? matched + 1 : byte == nonce[0];
    }
}

pid_t start_command_server(const char *nonce)
{
    pid_t server = fork();
    if (server != 0)
        return server;
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_SETMASK, &child_signal, NULL);
    signal(SIGPIPE, SIG_IGN);
    session.input = session.output = session.errors = -1;
    int children = signalfd(-1, &child_signal, SFD_CLOEXEC | SFD_NONBLOCK);
    const char *name = "virtio-serial";
    if ((channel = open_port()) < 0) {
        name = "isa-serial";
        channel = open_serial(SERIAL_LINE, O_RDWR);
    }
    if (channel < 0 || children < 0) {
        tell("commands none %s", strerror(errno));
        _exit(1);
    }
    tell("commands %s", name);
    synchronise(nonce);
    serve(children);
}
