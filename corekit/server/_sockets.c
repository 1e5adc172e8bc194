/* recv and send for many sockets in one call.

   Why: a call of a socket's method costs more than half a microsecond beside the system call: parsing the arguments, giving
   up the interpreter lock and taking it back, a buffer of the greatest size that is then cut. A busy turn has dozens of each.

   The sockets do not block, so the interpreter lock is kept. `sockets.py` has the same in Python. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

static char room[256 * 1024]; /* as limits.RECV_BYTES; used under the interpreter lock only */

static PyObject *receive(PyObject *module, PyObject *fds)
{
    (void)module;
    if (!PyList_Check(fds)) {
        PyErr_SetString(PyExc_TypeError, "receive: a list of file descriptors is needed");
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(fds);
    PyObject *got = PyList_New(count);
    if (got == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        int fd = (int)PyLong_AsLong(PyList_GET_ITEM(fds, i));
        ssize_t size = PyErr_Occurred() ? -1 : recv(fd, room, sizeof room, MSG_DONTWAIT);
        PyObject *one = PyErr_Occurred() ? NULL : size < 0 ? PyLong_FromLong(errno) : PyBytes_FromStringAndSize(room, size);
        if (one == NULL) {
            Py_DECREF(got);
            return NULL;
        }
        PyList_SET_ITEM(got, i, one);
    }
    return got;
}

static PyObject *send_many(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *fds, *outs;
    if (!PyArg_ParseTuple(args, "O!O!:send", &PyList_Type, &fds, &PyList_Type, &outs))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(fds);
    if (PyList_GET_SIZE(outs) != count) {
        PyErr_SetString(PyExc_ValueError, "send: as many pieces of data as file descriptors are needed");
        return NULL;
    }
    PyObject *taken = PyList_New(count);
    if (taken == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *out = PyList_GET_ITEM(outs, i), *one = NULL;
        int fd = (int)PyLong_AsLong(PyList_GET_ITEM(fds, i));
        char *data;
        Py_ssize_t size;
        if (!PyErr_Occurred() && PyBytes_AsStringAndSize(out, &data, &size) == 0) {
            ssize_t sent = size == 0 ? 0 : send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
            one = PyLong_FromSsize_t(sent < 0 ? -errno : sent);
        }
        if (one == NULL) {
            Py_DECREF(taken);
            return NULL;
        }
        PyList_SET_ITEM(taken, i, one);
    }
    return taken;
}

static PyMethodDef methods[] = {
    {"receive", receive, METH_O, "Receive from each; bytes, or the errno of what went wrong."},
    {"send", send_many, METH_VARARGS, "Send to each; the bytes it took, or minus the errno of what went wrong."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_sockets", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sockets(void)
{
    return PyModule_Create(&definition);
}
