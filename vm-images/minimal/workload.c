/*
 * The workload of the image `minimal`: as little program as can be measured.
 *
 * It makes only system calls, so that what is measured is the sandbox and not a C library.
 * It may be the first process of a PID namespace, which the kernel shields from every signal
 * that has no handler; so each signal it should end on gets one.
 */
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_USAGE = 64 };

static const char usage[] =
    "usage: workload ready [--text TEXT] | silent | stubborn | exit CODE | flood\n";

/* Returns 0, or -1 if nobody can read what is written. */
static int write_all(int descriptor, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(descriptor, data, length);
        if (written >= 0) {
            data += written;
            length -= (size_t)written;
        } else if (errno == EAGAIN) {
            struct pollfd writable = {.fd = descriptor, .events = POLLOUT};
            poll(&writable, 1, -1);
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

/* A number from 0 to `maximum`, or -1. */
static int parse_number(const char *text, int maximum)
{
    int number = 0;
    if (*text == '\0')
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        number = number * 10 + (*text - '0');
        if (number > maximum)
            return -1;
    }
    return number;
}

static int marks = -1; /* where the harness hears of instants; closed after the last one */

static void close_marks(void)
{
    if (marks >= 0)
        close(marks);
    marks = -1;
}

/* Pushes `name`, and the instant where the harness reads the same clock. */
static void push_mark(const char *name, const struct timespec *now)
{
    char line[64], digits[20];
    size_t length = strlen(name), count = 0;
    memcpy(line, name, length);
    if (now) {
        line[length++] = ' ';
        for (uint64_t rest = (uint64_t)now->tv_sec * 1000000000 + (uint64_t)now->tv_nsec;
             rest || count == 0; rest /= 10)
            digits[count++] = (char)('0' + rest % 10);
        while (count)
            line[length++] = digits[--count];
    }
    line[length++] = '\n';
    write_all(marks, line, length);
}

/* Tells the harness that the first instruction ran; kept open where it asks for the line of readiness, too. */
static void mark_first_instruction(void)
{
    const char *clock = getenv("PYBENCH_MARK_CLOCK");
    struct timespec now;
    if (clock)
        clock_gettime(CLOCK_MONOTONIC, &now);
    const char *text = getenv("PYBENCH_MARK_FD");
    marks = text ? parse_number(text, 1 << 20) : -1;
    if (marks < 0)
        return;
    push_mark("exec", clock ? &now : NULL);
    if (!clock || strcmp(clock, "line") != 0)
        close_marks();
}

/* Before the line, which is what the harness waits for; so the instant is there when the line is. */
static void mark_line(void)
{
    struct timespec now;
    if (marks < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    push_mark("line", &now);
}

static void leave(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

/* Ends on SIGTERM and SIGINT, or ignores them, whatever the parent had set. */
static void on_stop(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigprocmask(SIG_UNBLOCK, &stops, NULL);
}

static _Noreturn void wait_for_stop(void)
{
    for (;;)
        pause();
}

/* One line in one write, so that a reader never sees half of it; longer texts take two. */
static void print_line(const char *text)
{
    char line[512];
    size_t length = strlen(text);
    if (length < sizeof line) {
        memcpy(line, text, length);
        line[length] = '\n';
        mark_line();
        write_all(STDOUT_FILENO, line, length + 1);
    } else {
        mark_line();
        write_all(STDOUT_FILENO, text, length);
        write_all(STDOUT_FILENO, "\n", 1);
    }
    close_marks();
}

static _Noreturn void flood(void)
{
    static const char line[] = "the quick brown fox jumps over the lazy dog, again and again\n";
    while (write_all(STDOUT_FILENO, line, sizeof line - 1) == 0)
        ;
    _exit(1);
}

int main(int count, char **arguments)
{
    mark_first_instruction();
    const char *command = count > 1 ? arguments[1] : "";
    if (strcmp(command, "ready") == 0 && (count == 2 || (count == 4 && !strcmp(arguments[2], "--text")))) {
        on_stop(leave);
        print_line(count == 4 ? arguments[3] : "ready");
        wait_for_stop();
    }
    if (strcmp(command, "silent") == 0 && count == 2) {
        on_stop(leave);
        wait_for_stop();
    }
    if (strcmp(command, "stubborn") == 0 && count == 2) {
        on_stop(SIG_IGN);
        print_line("ready");
        wait_for_stop();
    }
    if (strcmp(command, "flood") == 0 && count == 2) {
        on_stop(leave);
        flood();
    }
    int code = count == 3 && strcmp(command, "exit") == 0 ? parse_number(arguments[2], 255) : -1;
    if (code >= 0)
        _exit(code);
    write_all(STDERR_FILENO, usage, sizeof usage - 1);
    _exit(EXIT_USAGE);
}
