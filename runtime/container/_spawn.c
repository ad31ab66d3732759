/* Start a program in new namespaces, with every instant taken on the host's monotonic clock.
 *
 * Program: steps, arguments and environment turned into C before any clock starts.
 * spawn(): clone3, id maps, then wait for execve and for the first bytes on watched descriptors.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_listener.h"
#include "_pipe_latency.h"
#include "_shared_memory.h"
#include "_spawn_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_SIZE (64 * 1024) /* the child's deepest frame is well below 2 KiB */
#define WATCHED_MAX 4
#define FIXED 3 /* polled besides the watched ones: the link, the child, the cancellation */
#define MAP_COMMANDS 2
#define MAP_ARGUMENTS 64

typedef struct {
    PyObject_HEAD
    PyObject *owner; /* holds every bytes object that the C strings below point into */
    struct step *steps;
    int step_count;
    const char *path;
    char **arguments;
    char **environment;
    void *stack;
    struct child *child; /* in memory that a child shares even if it has a copy of all the rest */
    bool busy;
} Program;

/* ---- Program ------------------------------------------------------------------------------ */

static int fill_step(struct step *step, PyObject *item)
{
    Py_ssize_t size = PyTuple_Size(item);
    if (size < 1)
        return PyErr_Occurred() ? -1 : (PyErr_SetString(PyExc_ValueError, "an empty step"), -1);
    int numbers = 0, texts = 0;
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *value = PyTuple_GET_ITEM(item, i);
        if (PyLong_Check(value)) {
            /* Bit sets of 64 bits come as unsigned numbers. */
            uint64_t number = PyLong_AsUnsignedLongLongMask(value);
            if (number == (uint64_t)-1 && PyErr_Occurred())
                return -1;
            if (i == 0) {
                if (number >= STEP_COUNT)
                    return PyErr_SetString(PyExc_ValueError, "an unknown step"), -1;
                step->code = (enum step_code)number;
                continue;
            }
            if (numbers == STEP_NUMBERS)
                return PyErr_SetString(PyExc_ValueError, "too many numbers in a step"), -1;
            step->number[numbers++] = (int64_t)number;
        } else if (PyBytes_Check(value) && i > 0 && texts < STEP_TEXTS) {
            step->text[texts] = PyBytes_AS_STRING(value);
            step->length[texts++] = (uint32_t)PyBytes_GET_SIZE(value);
        } else {
            return PyErr_SetString(PyExc_TypeError, "a step is a tuple of int and bytes"), -1;
        }
    }
    return 0;
}

static int check_slots(const struct step *step)
{
    int slots = 0; /* the first numbers of a step, where they are slots */
    switch (step->code) {
    case STEP_WAIT_FOR_START:
        slots = 3;
        break;
    case STEP_COPY_SLOT:
    case STEP_MASK:
        slots = 2;
        break;
    case STEP_FILESYSTEM:
    case STEP_TREE:
    case STEP_ATTACH:
    case STEP_SLOT_ATTRIBUTES:
    case STEP_PIVOT:
    case STEP_DUPLICATE:
    case STEP_JOIN:
    case STEP_CONSOLE:
    case STEP_HOOK:
        slots = 1;
        break;
    default:
        break;
    }
    for (int i = 0; i < slots; i++)
        if (step->number[i] < 0 || step->number[i] >= SLOTS)
            return PyErr_SetString(PyExc_ValueError, "a slot out of range"), -1;
    return 0;
}

static char **string_vector(PyObject *sequence)
{
    Py_ssize_t size = PyTuple_Size(sequence);
    if (size < 0)
        return NULL;
    char **vector = PyMem_Calloc((size_t)size + 1, sizeof(*vector));
    if (!vector)
        return (char **)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < size; i++)
        if (PyBytes_AsStringAndSize(PyTuple_GET_ITEM(sequence, i), &vector[i], NULL) < 0) {
            PyMem_Free(vector);
            return NULL;
        }
    return vector;
}

static int program_init(Program *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"steps", "path", "arguments", "environment", NULL};
    PyObject *steps, *path, *arguments, *environment;
    if (self->steps)
        return PyErr_SetString(PyExc_ValueError, "a Program is built once"), -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!SO!O!", names, &PyTuple_Type, &steps, &path,
                                     &PyTuple_Type, &arguments, &PyTuple_Type, &environment))
        return -1;
    self->owner = PyTuple_Pack(4, steps, path, arguments, environment);
    if (!self->owner)
        return -1;
    char *unused;
    if (PyBytes_AsStringAndSize(path, &unused, NULL) < 0)
        return -1;
    self->path = PyBytes_AS_STRING(path);
    self->step_count = (int)PyTuple_GET_SIZE(steps);
    self->steps = PyMem_Calloc((size_t)self->step_count + 1, sizeof(*self->steps));
    if (!self->steps)
        return PyErr_NoMemory(), -1;
    for (int i = 0; i < self->step_count; i++) {
        PyObject *item = PyTuple_GET_ITEM(steps, i);
        if (!PyTuple_Check(item))
            return PyErr_SetString(PyExc_TypeError, "a step is a tuple of int and bytes"), -1;
        if (fill_step(&self->steps[i], item) < 0 || check_slots(&self->steps[i]) < 0)
            return -1;
    }
    if (!(self->arguments = string_vector(arguments)) || !(self->environment = string_vector(environment)))
        return -1;
    self->child = mmap(NULL, sizeof(*self->child), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (self->child == MAP_FAILED) {
        self->child = NULL;
        return PyErr_SetFromErrno(PyExc_OSError), -1;
    }
    self->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_POPULATE, -1, 0);
    if (self->stack == MAP_FAILED) {
        self->stack = NULL;
        return PyErr_SetFromErrno(PyExc_OSError), -1;
    }
    return 0;
}

static void program_dealloc(Program *self)
{
    if (self->stack)
        munmap(self->stack, STACK_SIZE);
    if (self->child)
        munmap(self->child, sizeof(*self->child));
    PyMem_Free(self->steps);
    PyMem_Free(self->arguments);
    PyMem_Free(self->environment);
    Py_XDECREF(self->owner);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* ---- the parent's side of a spawn ---------------------------------------------------------- */

struct request {
    Program *program;
    uint64_t flags;
    int cgroup;
    int slots[SLOTS];
    const char *uid_map, *gid_map, *time_offsets;
    bool deny_setgroups;
    char *map_command[MAP_COMMANDS][MAP_ARGUMENTS]; /* a NULL argument in front: no command */
    int watched[WATCHED_MAX];
    int watched_count;
    int awaited; /* how many of them, from the first, must have spoken before spawn returns */
    int cancel;  /* becomes readable when nobody wants the result any more; -1: never */
    bool detached;      /* the child has a copy of our memory, and may outlive us */
    PyObject *on_clone; /* called with the pid while the child waits for the go-ahead; or NULL */
    int listener, supervisor; /* see take_listener; -1: the child's filter has none */
    int64_t timeout;
};

struct outcome {
    pid_t pid;
    int pidfd;
    bool sharing; /* the child runs on our memory */
    int64_t requested_at, cloned_at, maps_written_at, maps_seen_at, execve_at, executed_at;
    int64_t watched_at[WATCHED_MAX];
    int failed_step;  /* -1: none; step_count: execve; -2: the parent's own part; -3: it was killed */
    int failed_errno;
    const char *failed_call; /* of the parent's own part */
};

static void stop_sharing(struct outcome *outcome)
{
    if (outcome->sharing)
        stop_sharing_memory();
    outcome->sharing = false;
}

static int write_proc(pid_t pid, const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t written = write(file, text, strlen(text));
    int error = errno;
    close(file);
    errno = error;
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

/* newuidmap and newgidmap: how an ordinary user gets a range of ids (their second argument is the pid). */
static int run_map_command(char **command, pid_t pid)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", (int)pid);
    command[1] = number;
    char *no_environment[] = {NULL};
    pid_t helper;
    int error = posix_spawn(&helper, command[0], NULL, NULL, command, no_environment);
    command[1] = NULL;
    if (error) {
        errno = error;
        return -1;
    }
    int status;
    while (waitpid(helper, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    if (status != 0) {
        errno = EPERM;
        return -1;
    }
    return 0;
}

static const char *write_maps(const struct request *request, pid_t pid)
{
    if (request->time_offsets && write_proc(pid, "timens_offsets", request->time_offsets) < 0)
        return "write /proc/<pid>/timens_offsets";
    if (request->deny_setgroups && write_proc(pid, "setgroups", "deny") < 0)
        return "write /proc/<pid>/setgroups";
    if (request->uid_map && write_proc(pid, "uid_map", request->uid_map) < 0)
        return "write /proc/<pid>/uid_map";
    if (request->gid_map && write_proc(pid, "gid_map", request->gid_map) < 0)
        return "write /proc/<pid>/gid_map";
    for (int i = 0; i < MAP_COMMANDS; i++)
        if (request->map_command[i][0] && run_map_command((char **)request->map_command[i], pid) < 0)
            return request->map_command[i][0];
    return NULL;
}

/* Between clone and go-ahead, with the interpreter's lock; an exception stays set and ends the spawn. */
static int call_on_clone(PyObject *function, pid_t pid)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallFunction(function, "i", (int)pid);
    int failed = result ? 0 : -1;
    Py_XDECREF(result);
    PyGILState_Release(state);
    return failed;
}

static bool all_awaited(const struct request *request, const struct outcome *outcome)
{
    for (int i = 0; i < request->awaited; i++)
        if (!outcome->watched_at[i])
            return false;
    return true;
}

static void fail_in_parent(struct outcome *outcome, const char *call)
{
    outcome->failed_step = -2;
    outcome->failed_errno = errno;
    outcome->failed_call = call;
}

/* Wait for execve (the link closes) and for the first byte on each awaited descriptor. */
static void watch(const struct request *request, struct outcome *outcome, int link)
{
    int64_t deadline = outcome->requested_at + request->timeout;
    bool ended = false;
    while (outcome->failed_step == -1 &&
           (!outcome->executed_at || (!ended && !all_awaited(request, outcome)))) {
        if (request->detached && request->awaited > 0 && all_awaited(request, outcome))
            return; /* it waits to be started */
        struct pollfd polled[FIXED + WATCHED_MAX];
        /* No events: its closing is told all the same, and a listener sent on it wakes nobody. */
        polled[0] = (struct pollfd){.fd = outcome->executed_at ? -1 : link};
        polled[1] = (struct pollfd){.fd = outcome->executed_at ? outcome->pidfd : -1, .events = POLLIN};
        polled[2] = (struct pollfd){.fd = request->cancel, .events = POLLIN};
        for (int i = 0; i < request->watched_count; i++)
            polled[FIXED + i] = (struct pollfd){.fd = outcome->watched_at[i] ? -1 : request->watched[i],
                                                .events = POLLIN};
        int64_t left = deadline - monotonic_ns();
        if (left <= 0)
            return;
        struct timespec patience = {left / 1000000000, left % 1000000000};
        int ready = ppoll(polled, FIXED + (nfds_t)request->watched_count, &patience, NULL);
        int64_t now = monotonic_ns();
        if (ready <= 0)
            continue;
        /* A descriptor that only hangs up has not spoken, but there is nothing to wait for either. */
        for (int i = 0; i < request->watched_count; i++)
            if (polled[FIXED + i].revents)
                outcome->watched_at[i] = polled[FIXED + i].revents & POLLIN ? now : -now;
        if (polled[0].revents) {
            outcome->executed_at = now;
            stop_sharing(outcome);
            const char *failed_call =
                request->listener < 0 ? NULL : take_listener(link, request->listener, request->supervisor);
            if (failed_call)
                fail_in_parent(outcome, failed_call);
        }
        if (polled[1].revents)
            ended = true;
        if (polled[2].revents)
            return;
    }
}

static void reap(struct outcome *outcome)
{
    siginfo_t info;
    while (waitid(P_PIDFD, (id_t)outcome->pidfd, &info, WEXITED) < 0 && errno == EINTR)
        continue;
    close(outcome->pidfd);
    outcome->pidfd = -1;
}

/* A child that joined namespaces has left its work to a second one, whose parent we are as well. */
static int follow_second(struct outcome *outcome, const struct child *child)
{
    reap(outcome);
    if (child->second <= 0)
        return child->failed_step >= 0 ? 0 : (errno = ECHILD, -1);
    outcome->pid = (pid_t)child->second;
    outcome->pidfd = (int)syscall(SYS_pidfd_open, outcome->pid, 0);
    return outcome->pidfd < 0 ? -1 : 0;
}

static bool joins(const Program *program)
{
    for (int i = 0; i < program->step_count; i++)
        if (program->steps[i].code == STEP_JOIN)
            return program->steps[i].number[1] & CLONE_NEWPID;
    return false;
}

static void follow_child(const struct request *request, struct outcome *outcome, struct child *child)
{
    const char *failed_call = write_maps(request, outcome->pid);
    if (failed_call)
        fail_in_parent(outcome, failed_call);
    outcome->maps_written_at = monotonic_ns();
    if (!failed_call && request->on_clone && call_on_clone(request->on_clone, outcome->pid) < 0)
        fail_in_parent(outcome, failed_call = "prepare");
    if (!failed_call && write(child->parent_link, "", 1) < 0 && errno != EPIPE)
        fail_in_parent(outcome, "write the go-ahead");
    if (outcome->failed_step == -1 && joins(request->program) && follow_second(outcome, child) < 0)
        fail_in_parent(outcome, "pidfd_open");
    if (outcome->failed_step == -1 && outcome->pidfd >= 0)
        watch(request, outcome, child->parent_link);
    bool created = request->detached && request->awaited > 0 && all_awaited(request, outcome);
    if (created) {
        outcome->maps_seen_at = child->maps_seen_at;
        return;
    }
    /* Until execve the child runs on our memory: it must be gone before that is reused. */
    if (outcome->pidfd >= 0 && (!outcome->executed_at || outcome->failed_step != -1))
        syscall(SYS_pidfd_send_signal, outcome->pidfd, SIGKILL, NULL, 0);
    if (outcome->failed_step == -1 && child->failed_step >= 0) {
        outcome->failed_step = child->failed_step;
        outcome->failed_errno = child->failed_errno;
    } else if (outcome->failed_step == -1 && (!outcome->executed_at || !child->execve_at)) {
        outcome->failed_step = -3;
        outcome->failed_errno = outcome->executed_at ? ECHILD : ETIMEDOUT;
    }
    outcome->maps_seen_at = child->maps_seen_at;
    outcome->execve_at = child->execve_at;
    if (outcome->failed_step != -1 && outcome->pidfd >= 0)
        reap(outcome);
}

static void spawn_child(const struct request *request, struct outcome *outcome)
{
    outcome->requested_at = monotonic_ns();
    outcome->failed_step = -1;
    outcome->pidfd = -1;
    int link[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0) {
        fail_in_parent(outcome, "socketpair");
        return;
    }
    struct child *child = request->program->child;
    *child = (struct child){
        .steps = request->program->steps,
        .step_count = request->program->step_count,
        .path = request->program->path,
        .arguments = request->program->arguments,
        .environment = request->program->environment,
        .link = link[1],
        .parent_link = link[0],
        .report = -1,
        .failed_step = -1,
    };
    memcpy(child->slots, request->slots, sizeof(child->slots));
    struct clone_args arguments = {
        .flags = request->flags | (request->detached ? 0 : CLONE_VM) | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        .pidfd = (uint64_t)(uintptr_t)&outcome->pidfd,
        .exit_signal = SIGCHLD,
        .stack = (uint64_t)(uintptr_t)request->program->stack,
        .stack_size = STACK_SIZE,
    };
    if (request->cgroup >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)request->cgroup;
    }
    sigset_t all, before;
    sigfillset(&all);
    if (!request->detached) {
        share_memory();
        outcome->sharing = true;
    }
    pthread_sigmask(SIG_SETMASK, &all, &before);
    long pid = clone_child(&arguments, child);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    outcome->cloned_at = monotonic_ns();
    close(link[1]);
    if (pid < 0) {
        errno = (int)-pid;
        fail_in_parent(outcome, "clone3");
    } else {
        outcome->pid = (pid_t)pid;
        follow_child(request, outcome, child);
    }
    stop_sharing(outcome);
    close(link[0]);
}

/* ---- how finely a pipe tells instants apart ------------------------------------------------- */

static PyObject *pipe_latencies(PyObject *module, PyObject *argument)
{
    (void)module;
    long rounds = PyLong_AsLong(argument);
    if (rounds == -1 && PyErr_Occurred())
        return NULL;
    if (rounds < 1 || rounds > 100000)
        return PyErr_SetString(PyExc_ValueError, "rounds must be 1 to 100000"), NULL;
    int64_t *latencies = PyMem_Calloc((size_t)rounds, sizeof(*latencies));
    if (!latencies)
        return PyErr_NoMemory();
    int count;
    Py_BEGIN_ALLOW_THREADS
    count = measure_pipe_latencies((int)rounds, latencies);
    Py_END_ALLOW_THREADS
    PyObject *result = count < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyTuple_New(count);
    for (int i = 0; result && i < count; i++) {
        PyObject *value = PyLong_FromLongLong(latencies[i]);
        if (!value)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, i, value);
    }
    PyMem_Free(latencies);
    return result;
}

/* ---- arguments and result -------------------------------------------------------------------- */

static int fill_descriptors(PyObject *tuple, int *descriptors, int limit, const char *what)
{
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    if (size > limit)
        return PyErr_Format(PyExc_ValueError, "more than %d %s", limit, what), -1;
    for (Py_ssize_t i = 0; i < size; i++) {
        long number = PyLong_AsLong(PyTuple_GET_ITEM(tuple, i));
        if (number == -1 && PyErr_Occurred())
            return -1;
        descriptors[i] = (int)number;
    }
    return (int)size;
}

static int fill_map_commands(PyObject *commands, struct request *request)
{
    Py_ssize_t count = PyTuple_GET_SIZE(commands);
    if (count > MAP_COMMANDS)
        return PyErr_SetString(PyExc_ValueError, "more than two map commands"), -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *command = PyTuple_GET_ITEM(commands, i);
        Py_ssize_t size = PyTuple_Size(command);
        if (size < 1)
            return PyErr_Occurred() ? -1 : (PyErr_SetString(PyExc_ValueError, "an empty map command"), -1);
        if (size + 2 > MAP_ARGUMENTS)
            return PyErr_SetString(PyExc_ValueError, "a map command is too long"), -1;
        /* Place 1 is for the pid. */
        for (Py_ssize_t j = 0; j < size; j++)
            if (PyBytes_AsStringAndSize(PyTuple_GET_ITEM(command, j),
                                        &request->map_command[i][j == 0 ? 0 : j + 1], NULL) < 0)
                return -1;
    }
    return 0;
}

static PyObject *outcome_tuple(const struct request *request, const struct outcome *outcome)
{
    PyObject *watched = PyTuple_New(request->watched_count);
    if (!watched)
        return NULL;
    for (int i = 0; i < request->watched_count; i++) {
        PyObject *at = PyLong_FromLongLong(outcome->watched_at[i] > 0 ? outcome->watched_at[i] : 0);
        if (!at) {
            Py_DECREF(watched);
            return NULL;
        }
        PyTuple_SET_ITEM(watched, i, at);
    }
    return Py_BuildValue("(iiLLLLLLNiis)", (int)outcome->pid, outcome->pidfd,
                         (long long)outcome->requested_at, (long long)outcome->cloned_at,
                         (long long)outcome->maps_written_at, (long long)outcome->maps_seen_at,
                         (long long)outcome->execve_at, (long long)outcome->executed_at, watched,
                         outcome->failed_step, outcome->failed_errno,
                         outcome->failed_call ? outcome->failed_call : "");
}

static PyTypeObject *program_type;

static PyObject *spawn(PyObject *module, PyObject *args, PyObject *kwargs)
{
    (void)module;
    static char *names[] = {"program",      "flags",          "descriptors",  "uid_map",  "gid_map",
                            "time_offsets", "deny_setgroups", "map_commands", "cgroup",   "watched",
                            "awaited",      "cancel",         "timeout",      "listener", "supervisor",
                            "detached",     "on_clone",       NULL};
    struct request request = {0};
    struct outcome outcome = {0};
    unsigned long long flags;
    PyObject *descriptors, *map_commands, *watched;
    int deny_setgroups, detached = 0;
    long long timeout;
    PyObject *on_clone = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!KO!zzzpO!iO!iiLii|pO", names, program_type,
                                     &request.program, &flags, &PyTuple_Type, &descriptors,
                                     &request.uid_map, &request.gid_map, &request.time_offsets,
                                     &deny_setgroups, &PyTuple_Type, &map_commands, &request.cgroup,
                                     &PyTuple_Type, &watched, &request.awaited, &request.cancel, &timeout,
                                     &request.listener, &request.supervisor, &detached, &on_clone))
        return NULL;
    request.detached = detached;
    request.on_clone = on_clone == Py_None ? NULL : on_clone;
    request.flags = flags;
    request.deny_setgroups = deny_setgroups;
    request.timeout = timeout;
    for (int i = 0; i < SLOTS; i++)
        request.slots[i] = -1;
    if (fill_descriptors(descriptors, request.slots, SLOTS, "descriptors") < 0)
        return NULL;
    request.watched_count = fill_descriptors(watched, request.watched, WATCHED_MAX, "watched descriptors");
    if (request.watched_count < 0 || fill_map_commands(map_commands, &request) < 0)
        return NULL;
    if (request.awaited < 0 || request.awaited > request.watched_count)
        return PyErr_Format(PyExc_ValueError, "awaited must be 0 to %d", request.watched_count);
    if (!request.program->stack || request.program->busy)
        return PyErr_Format(PyExc_RuntimeError, "the program is %s",
                            request.program->busy ? "being spawned by another thread" : "not built");
    request.program->busy = true;
    Py_BEGIN_ALLOW_THREADS
    spawn_child(&request, &outcome);
    Py_END_ALLOW_THREADS
    request.program->busy = false;
    if (PyErr_Occurred())
        return NULL; /* of on_clone; the child has been reaped */
    return outcome_tuple(&request, &outcome);
}

/* ---- the module ------------------------------------------------------------------------------ */

static PyType_Slot program_slots[] = {
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, program_init},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_doc, "Steps, path, arguments and environment, ready to be spawned any number of times."},
    {0, NULL},
};

static PyType_Spec program_spec = {
    .name = "pybench.runtime.container._spawn.Program",
    .basicsize = sizeof(Program),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = program_slots,
};

static PyMethodDef methods[] = {
    {"spawn", (PyCFunction)(void (*)(void))spawn, METH_VARARGS | METH_KEYWORDS,
     "Start a Program; see _spawn.pyi."},
    {"pipe_latencies", pipe_latencies, METH_O, "Latencies of marks pushed through a pipe; see _spawn.pyi."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_spawn", .m_size = -1, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__spawn(void)
{
    PyObject *module = PyModule_Create(&module_definition);
    program_type = (PyTypeObject *)PyType_FromSpec(&program_spec);
    if (!module || !program_type || PyModule_AddObjectRef(module, "Program", (PyObject *)program_type) < 0)
        return NULL;
#define X(name)                                                                                    \
    if (PyModule_AddIntConstant(module, #name, STEP_##name) < 0)                                   \
        return NULL;
    STEPS(X)
#undef X
    if (PyModule_AddIntConstant(module, "SLOTS", SLOTS) < 0)
        return NULL;
    return module;
}
