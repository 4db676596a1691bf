/* What Python calls: arrays checked against the sizes of a decoder, then decoded by `_rows.h`. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_rows.h"

enum { MOST_BUFFERS = 2 + TABLES + 2 * MIXTURE_TABLES + 4 };

typedef struct {
    Py_buffer held[MOST_BUFFERS];
    int count;
} Buffers;

/* Holds the memory of an array of so many bytes; NULL and ValueError for another size. */
static void *hold(Buffers *buffers, PyObject *array, Py_ssize_t bytes, int flags) {
    if (array == NULL || PyObject_GetBuffer(array, &buffers->held[buffers->count], flags) != 0) return NULL;
    const Py_buffer *view = &buffers->held[buffers->count++];
    if (view->len != bytes) {
        PyErr_Format(PyExc_ValueError, "expected a table of %zd bytes, found %zd", bytes, view->len);
        return NULL;
    }
    return view->buf;
}

static int hold_mixture(Buffers *buffers, PyObject *given, const int32_t *size, Mixture *mixture) {
    PyObject *tables;
    int components, chosen;
    if (!PyArg_ParseTuple(
            given, "O!iifff", &PyTuple_Type, &tables, &components, &chosen, &mixture->temperature,
            &mixture->form_sum, &mixture->linear_unit
        ))
        return 0;
    if (components < 1 || chosen < 1 || chosen > components || chosen > MOST_DIMS) {
        PyErr_SetString(PyExc_ValueError, "expected as many components as are chosen");
        return 0;
    }
    mixture->components = components, mixture->chosen = chosen;
    const Py_ssize_t r = size[INPUT], pairs = r * (r + 1) / 2, k = components;
    const Py_ssize_t bytes[MIXTURE_TABLES] = {
        4 * r * r, k * PADDED(pairs + r), 4 * k, 4 * k * (pairs + r), 4 * k, 4 * k * (r + 1) * size[TREND],
    };
    for (int i = 0; i < MIXTURE_TABLES; i++) {
        mixture->table[i] = hold(buffers, PyTuple_GetItem(tables, i), bytes[i], PyBUF_C_CONTIGUOUS);
        if (mixture->table[i] == NULL) return 0;
    }
    return 1;
}

static int hold_decoder(Buffers *buffers, PyObject *given, Decoder *decoder) {
    PyObject *sizes, *numbers, *tables, *fine, *broad;
    if (!PyArg_ParseTuple(
            given, "OOO!O!O!", &sizes, &numbers, &PyTuple_Type, &tables, &PyTuple_Type, &fine, &PyTuple_Type,
            &broad
        ))
        return 0;
    const int32_t *size = decoder->size = hold(buffers, sizes, 4 * SIZES, PyBUF_C_CONTIGUOUS);
    decoder->number = size == NULL ? NULL : hold(buffers, numbers, 4 * NUMBERS, PyBUF_C_CONTIGUOUS);
    if (decoder->number == NULL) return 0;
    for (int i = 0; i < SIZES; i++)
        if (size[i] < 1) return PyErr_SetString(PyExc_ValueError, "expected sizes above 0"), 0;
    if (size[INPUT] > MOST_DIMS || size[FEATURES] > MOST_DIMS || size[NEIGHBOURS] > MOST_DIMS
        || size[FEATURES] > size[MEAN] || size[TREND] > size[MEAN] || size[NEIGHBOURS] > size[CANDIDATES]
        || size[MEAN] + 2 * (int64_t)size[PHASES] > size[OUTPUT])
        return PyErr_SetString(PyExc_ValueError, "expected sizes that fit each other"), 0;
    const Py_ssize_t r = size[INPUT], d = size[MEAN], rest = d - size[TREND], n = size[ROWS];
    const Py_ssize_t bytes[TABLES] = {
        4 * r * rest, 4 * rest, 4 * n * r, 4 * n * size[FEATURES], n * d, 4 * d, 4 * r * size[PHASES],
    };
    for (int i = 0; i < TABLES; i++) {
        decoder->table[i] = hold(buffers, PyTuple_GetItem(tables, i), bytes[i], PyBUF_C_CONTIGUOUS);
        if (decoder->table[i] == NULL) return 0;
    }
    return hold_mixture(buffers, fine, size, &decoder->fine) && hold_mixture(buffers, broad, size, &decoder->broad);
}

static Py_ssize_t larger(Py_ssize_t a, Py_ssize_t b) { return a > b ? a : b; }

/* Working memory in one block, which the caller frees; NULL and MemoryError where there is none. */
static float *allocate(const Decoder *decoder, Memory *memory) {
    const int32_t *size = decoder->size;
    const Py_ssize_t r = size[INPUT], n = size[NEIGHBOURS], pairs = r * (r + 1) / 2, padded = PADDED(pairs + r);
    const Py_ssize_t spare = larger(
        larger(size[PHASES], n * n + n * (r + size[FEATURES])), decoder->broad.components
    );
    const Py_ssize_t a_row = pairs + r + decoder->fine.components + padded / 2;
    float *next = PyMem_RawMalloc((BLOCK * a_row + 2 * size[MEAN] + spare) * sizeof(float)), *block = next;
    if (block == NULL) return PyErr_NoMemory(), NULL;
    memory->rounded = (int16_t *)next, next += BLOCK * padded / 2;
    memory->products = next, next += BLOCK * (pairs + r);
    memory->coarse = next, next += BLOCK * decoder->fine.components;
    memory->mean = next, next += size[MEAN];
    memory->trend = next, next += size[MEAN];
    memory->spare = next;
    return block;
}

static PyObject *decode(PyObject *module, PyObject *arguments) {
    PyObject *given, *points, *candidates, *rows, *confidences, *answer = NULL;
    Py_ssize_t count;
    Buffers buffers = {.count = 0};
    Decoder decoder;
    Memory memory;
    (void)module;
    if (!PyArg_ParseTuple(
            arguments, "O!nOOOO", &PyTuple_Type, &given, &count, &points, &candidates, &rows, &confidences
        ))
        return NULL;
    if (!hold_decoder(&buffers, given, &decoder)) goto done;
    const int32_t *size = decoder.size;
    const float *in = hold(&buffers, points, 4 * count * size[INPUT], PyBUF_C_CONTIGUOUS);
    const int64_t *near = in ? hold(&buffers, candidates, 8 * count * size[CANDIDATES], PyBUF_C_CONTIGUOUS) : NULL;
    float *out = near ? hold(&buffers, rows, 4 * count * size[OUTPUT], PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) : NULL;
    float *known = out ? hold(&buffers, confidences, 4 * count, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) : NULL;
    if (known == NULL) goto done;
    for (Py_ssize_t i = 0; i < count * size[CANDIDATES]; i++)
        if (near[i] < 0 || near[i] >= size[ROWS]) {
            PyErr_Format(PyExc_ValueError, "expected rows below %d, found %lld", size[ROWS], (long long)near[i]);
            goto done;
        }
    float *block = allocate(&decoder, &memory);
    if (block == NULL) goto done;
    /* A single row is done before another thread would have taken over. */
    PyThreadState *state = count > 4 ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t at = 0; at < count; at += BLOCK) {
        const int rows_left = count - at < BLOCK ? (int)(count - at) : BLOCK;
        decode_block(
            &decoder, in + at * size[INPUT], near + at * size[CANDIDATES], rows_left, out + at * size[OUTPUT],
            known + at, &memory
        );
    }
    if (state != NULL) PyEval_RestoreThread(state);
    PyMem_RawFree(block);
    answer = Py_NewRef(Py_None);
done:
    for (int i = 0; i < buffers.count; i++) PyBuffer_Release(&buffers.held[i]);
    return answer;
}

static PyMethodDef METHODS[] = {
    {"decode", decode, METH_VARARGS,
     "decode(decoder, n, points, candidates, rows, confidences): see embup_core.decoders.mixture_kriging.kernel"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_kernel", "Rows through MixtureKriging.", 0, METHODS, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) {
    PyObject *module = PyModule_Create(&MODULE);
    /* To be raised with what `decode` is given: a build of before is not used then. */
    if (module != NULL && PyModule_AddIntConstant(module, "LAYOUT", 1) != 0) Py_CLEAR(module);
    return module;
}
