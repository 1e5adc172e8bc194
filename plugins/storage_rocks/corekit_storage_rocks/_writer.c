/* One thread that writes and syncs, and never needs the interpreter lock.

   Why: a Python thread has to get the lock back after every system call, from an event loop that gives it up only for
   moments. Most of the time of a sync was that waiting, and the loop paid for the hand-overs.

   `Writer.begin` hands over one frame, `Writer.result` takes the outcome. At most one is under way. Everything that
   both threads touch is under `lock`, except `frame`, which only the caller's thread touches.

   Not here: what is written, and what a failure means (journal.py). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef RWF_DSYNC
#error "pwritev2 with RWF_DSYNC is needed; without it a Python thread does the same"
#endif

enum stage { IDLE, ASKED, DONE, CLOSED };

typedef struct {
    PyObject_HEAD
    pthread_t thread;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum stage stage;
    int fd, wake, error;
    const char *data;
    size_t size;
    off_t at;
    double seconds;
    PyObject *frame; /* keeps `data` alive */
} Writer;

/* Write all of it, durable when this returns. Returns 0 or an errno. */
static int write_through(int fd, const char *data, size_t size, off_t at)
{
    while (size > 0) {
        struct iovec part = {.iov_base = (void *)data, .iov_len = size};
        ssize_t written = pwritev2(fd, &part, 1, at, RWF_DSYNC);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno;
        if (written == 0)
            return EIO;
        data += written;
        size -= (size_t)written;
        at += written;
    }
    return 0;
}

static double seconds_since(const struct timespec *began)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - began->tv_sec) + (double)(now.tv_nsec - began->tv_nsec) / 1e9;
}

static void *run(void *argument)
{
    Writer *self = argument;
    pthread_setname_np(pthread_self(), "corekit-journal");
    pthread_mutex_lock(&self->lock);
    for (;;) {
        while (self->stage != ASKED && self->stage != CLOSED)
            pthread_cond_wait(&self->changed, &self->lock);
        if (self->stage == CLOSED)
            break;
        int wake = self->wake;
        pthread_mutex_unlock(&self->lock);
        struct timespec began;
        clock_gettime(CLOCK_MONOTONIC, &began);
        int error = write_through(self->fd, self->data, self->size, self->at);
        double seconds = seconds_since(&began);
        pthread_mutex_lock(&self->lock);
        self->error = error;
        self->seconds = seconds;
        self->stage = DONE;
        pthread_mutex_unlock(&self->lock);
        pthread_cond_broadcast(&self->changed);
        uint64_t one = 1;
        ssize_t told = wake < 0 ? 0 : write(wake, &one, sizeof one);
        (void)told; /* it fails only if the counter is full, which is readable too */
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static PyObject *writer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (!PyArg_ParseTuple(args, "") || (kwargs != NULL && PyDict_Size(kwargs) > 0))
        return NULL;
    Writer *self = (Writer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->stage = IDLE;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    sigset_t all, before; /* signals are for the interpreter's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&self->thread, NULL, run, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        Py_DECREF(self);
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    self->started = 1;
    return (PyObject *)self;
}

static PyObject *writer_begin(Writer *self, PyObject *args)
{
    int fd, wake;
    PyObject *frame;
    long long at;
    if (!PyArg_ParseTuple(args, "iSLi:begin", &fd, &frame, &at, &wake))
        return NULL;
    pthread_mutex_lock(&self->lock);
    int idle = self->stage == IDLE;
    if (idle) {
        Py_INCREF(frame);
        self->frame = frame;
        self->fd = fd;
        self->wake = wake;
        self->data = PyBytes_AS_STRING(frame);
        self->size = (size_t)PyBytes_GET_SIZE(frame);
        self->at = (off_t)at;
        self->stage = ASKED;
    }
    pthread_mutex_unlock(&self->lock);
    if (idle) /* not with the lock: the thread would wake only to wait for it */
        pthread_cond_broadcast(&self->changed);
    if (!idle) {
        PyErr_SetString(PyExc_RuntimeError, "the writer is at work, or closed");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *writer_result(Writer *self, PyObject *unused)
{
    pthread_mutex_lock(&self->lock);
    int done = self->stage == DONE;
    if (done)
        self->stage = IDLE;
    pthread_mutex_unlock(&self->lock);
    if (!done)
        Py_RETURN_NONE;
    Py_CLEAR(self->frame);
    if (self->error != 0) {
        errno = self->error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyFloat_FromDouble(self->seconds);
}

static PyObject *writer_wait(Writer *self, PyObject *unused)
{
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&self->lock);
    while (self->stage == ASKED)
        pthread_cond_wait(&self->changed, &self->lock);
    pthread_mutex_unlock(&self->lock);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Let a write that is under way finish, then end the thread. */
static void end_thread(Writer *self)
{
    if (!self->started)
        return;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&self->lock);
    while (self->stage == ASKED)
        pthread_cond_wait(&self->changed, &self->lock);
    self->stage = CLOSED;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    Py_END_ALLOW_THREADS
    self->started = 0;
    Py_CLEAR(self->frame);
}

static PyObject *writer_close(Writer *self, PyObject *unused)
{
    end_thread(self);
    Py_RETURN_NONE;
}

static void writer_dealloc(Writer *self)
{
    PyTypeObject *type = Py_TYPE(self);
    end_thread(self);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef writer_methods[] = {
    {"begin", (PyCFunction)writer_begin, METH_VARARGS, "begin(fd, frame, at, wake): write a frame and sync it."},
    {"result", (PyCFunction)writer_result, METH_NOARGS, "Seconds that it took, or None: not done. Raises OSError."},
    {"wait", (PyCFunction)writer_wait, METH_NOARGS, "Block until no write is under way."},
    {"close", (PyCFunction)writer_close, METH_NOARGS, "End the thread, after a write that is under way."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_new, writer_new},
    {Py_tp_dealloc, writer_dealloc},
    {Py_tp_methods, writer_methods},
    {Py_tp_doc, "A thread that writes one frame at a time, durably, without the interpreter lock."},
    {0, NULL},
};

static PyType_Spec writer_spec = {
    .name = "corekit_storage_rocks._writer.Writer",
    .basicsize = sizeof(Writer),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = writer_slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&writer_spec);
    if (type == NULL)
        return -1;
    int failed = PyModule_AddObjectRef(module, "Writer", type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_writer",
    .m_doc = "The journal's writing thread, outside the interpreter lock.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__writer(void)
{
    return PyModuleDef_Init(&module_def);
}
