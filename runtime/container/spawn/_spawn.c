/* Start a program in new namespaces, with every instant taken on the host's monotonic clock.
 *
 * Program: steps, arguments and environment turned into C before any clock starts.
 * spawn(): clone3, id maps, then wait for execve and for the first bytes on watched descriptors.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pipe_latency.h"
#include "parent.h"

#include <stdbool.h>
#include <sys/mman.h>

typedef struct {
    PyObject_HEAD
    PyObject *owner; /* holds every bytes object that the strings of `prepared` point into */
    struct prepared prepared;
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
    if (self->prepared.steps)
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
    self->prepared.path = PyBytes_AS_STRING(path);
    self->prepared.step_count = (int)PyTuple_GET_SIZE(steps);
    self->prepared.steps = PyMem_Calloc((size_t)self->prepared.step_count + 1, sizeof(*self->prepared.steps));
    if (!self->prepared.steps)
        return PyErr_NoMemory(), -1;
    for (int i = 0; i < self->prepared.step_count; i++) {
        PyObject *item = PyTuple_GET_ITEM(steps, i);
        if (!PyTuple_Check(item))
            return PyErr_SetString(PyExc_TypeError, "a step is a tuple of int and bytes"), -1;
        if (fill_step(&self->prepared.steps[i], item) < 0 || check_slots(&self->prepared.steps[i]) < 0)
            return -1;
    }
    if (!(self->prepared.arguments = string_vector(arguments)) || !(self->prepared.environment = string_vector(environment)))
        return -1;
    self->prepared.child = mmap(NULL, sizeof(*self->prepared.child), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (self->prepared.child == MAP_FAILED) {
        self->prepared.child = NULL;
        return PyErr_SetFromErrno(PyExc_OSError), -1;
    }
    self->prepared.stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_POPULATE, -1, 0);
    if (self->prepared.stack == MAP_FAILED) {
        self->prepared.stack = NULL;
        return PyErr_SetFromErrno(PyExc_OSError), -1;
    }
    return 0;
}

static void program_dealloc(Program *self)
{
    if (self->prepared.stack)
        munmap(self->prepared.stack, STACK_SIZE);
    if (self->prepared.child)
        munmap(self->prepared.child, sizeof(*self->prepared.child));
    PyMem_Free(self->prepared.steps);
    PyMem_Free(self->prepared.arguments);
    PyMem_Free(self->prepared.environment);
    Py_XDECREF(self->owner);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
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
    return Py_BuildValue("(ii(LLLLL)Niis)", (int)outcome->pid, outcome->pidfd,
                         (long long)outcome->requested_at, (long long)outcome->cloned_at,
                         (long long)outcome->maps_seen_at, (long long)outcome->execve_at,
                         (long long)outcome->executed_at, watched,
                         outcome->failed_step, outcome->failed_errno,
                         outcome->failed_call ? outcome->failed_call : "");
}

/* Between clone and go-ahead, with the interpreter's lock; an exception stays set and ends the spawn. */
static int call_on_clone(void *function, pid_t pid)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallFunction((PyObject *)function, "i", (int)pid);
    int failed = result ? 0 : -1;
    Py_XDECREF(result);
    PyGILState_Release(state);
    return failed;
}

static PyTypeObject *program_type;

static PyObject *spawn(PyObject *module, PyObject *args, PyObject *kwargs)
{
    (void)module;
    static char *names[] = {"program",      "flags",          "descriptors",  "uid_map",  "gid_map",
                            "time_offsets", "deny_setgroups", "map_commands", "cgroup",   "watched",
                            "awaited",      "cancel",         "timeout",      "listener", "supervisor",
                            "detached",     "on_clone",       "processes",    NULL};
    struct request request = {.processes = -1};
    struct outcome outcome = {0};
    unsigned long long flags;
    PyObject *descriptors, *map_commands, *watched;
    int deny_setgroups, detached = 0;
    long long timeout;
    PyObject *on_clone = Py_None;
    Program *program;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!KO!zzzpO!iO!iiLii|pOi", names, program_type,
                                     &program, &flags, &PyTuple_Type, &descriptors,
                                     &request.uid_map, &request.gid_map, &request.time_offsets,
                                     &deny_setgroups, &PyTuple_Type, &map_commands, &request.cgroup,
                                     &PyTuple_Type, &watched, &request.awaited, &request.cancel, &timeout,
                                     &request.listener, &request.supervisor, &detached, &on_clone,
                                     &request.processes))
        return NULL;
    request.program = &program->prepared;
    request.detached = detached;
    request.on_clone = on_clone == Py_None ? NULL : call_on_clone;
    request.context = on_clone;
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
    if (!program->prepared.stack || program->busy)
        return PyErr_Format(PyExc_RuntimeError, "the program is %s",
                            program->busy ? "being spawned by another thread" : "not built");
    program->busy = true;
    Py_BEGIN_ALLOW_THREADS
    spawn_child(&request, &outcome);
    Py_END_ALLOW_THREADS
    program->busy = false;
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
