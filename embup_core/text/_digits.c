/* Values to the fixed-width text that `formatter.py` describes, with its bytes: three table look-ups a value. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { VALUE_BYTES = 12, TENTHS = 11, RELEASED = 1 << 15 };
#define LARGEST 1.000001f

static char LEADING[2][TENTHS][4], FOUR[10000][4], THREE[1000][4]; /* " 0.0" to "-1.0", "0000", "000," */

static void fill_tables(void) {
    for (int i = 0; i < 2 * TENTHS; i++) {
        const char text[4] = {"- "[i < TENTHS], (char)('0' + i % TENTHS / 10), '.', (char)('0' + i % TENTHS % 10)};
        memcpy(LEADING[i / TENTHS][i % TENTHS], text, 4);
    }
    for (int i = 0; i < 10000; i++)
        for (int place = 3, rest = i; place >= 0; place--, rest /= 10) FOUR[i][place] = (char)('0' + rest % 10);
    for (int i = 0; i < 1000; i++) memcpy(THREE[i], FOUR[i] + 1, 3), THREE[i][3] = ',';
}

/* Whether all values were within bounds; the text is complete only then. */
static int write_values(const float *values, Py_ssize_t count, Py_ssize_t dims, char *text) {
    Py_ssize_t left = dims;
    for (Py_ssize_t i = 0; i < count; i++, text += VALUE_BYTES) {
        uint32_t bits; /* the sign is read from its bit, so that what rounds to zero keeps it, as in '%.8f' */
        memcpy(&bits, values + i, sizeof bits);
        const float size = fabsf(values[i]);
        if (!(size <= LARGEST)) return 0; /* NaN comes here too */
        /* 24 bits times 1e8 = 2**8 * 390625 has 43 bits: exact, so ties round as in '%.8f' */
        const uint32_t digits = (uint32_t)lrint((size <= 1 ? size : 1) * 1e8);
        const uint32_t first = digits / 1000;
        memcpy(text, LEADING[bits >> 31][first / 10000], 4);
        memcpy(text + 4, FOUR[first % 10000], 4);
        memcpy(text + 8, THREE[digits % 1000], 4);
        if (--left == 0) text[VALUE_BYTES - 1] = '\n', left = dims;
    }
    return 1;
}

static PyObject *format_values(PyObject *module, PyObject *arguments) {
    Py_buffer values, text;
    Py_ssize_t dims;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*w*n", &values, &text, &dims)) return NULL;
    const Py_ssize_t count = values.len / (Py_ssize_t)sizeof(float);
    int written = 0;
    if (dims < 1 || text.len != count * VALUE_BYTES) {
        PyErr_Format(PyExc_ValueError, "expected room for %zd values, found %zd bytes", count, text.len);
    } else {
        PyThreadState *state = count > RELEASED ? PyEval_SaveThread() : NULL;
        written = write_values(values.buf, count, dims, text.buf);
        if (state != NULL) PyEval_RestoreThread(state);
    }
    PyBuffer_Release(&values);
    PyBuffer_Release(&text);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(written);
}

static PyMethodDef METHODS[] = {
    {"format_values", format_values, METH_VARARGS, "format_values(values, text, dims): see embup_core.text.formatter"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_digits", "Values to text.", 0, METHODS, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__digits(void) {
    fill_tables();
    return PyModule_Create(&MODULE);
}
