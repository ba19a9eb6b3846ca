/* Inference as a function of Python, without the cost of ctypes and of conversions: `sen_call_bind` makes it.
 *
 * Its argument is an input or a batch: a numpy array of float32 in C order. For anything else, batches with many outputs, a closed
 * session, or a status other than SEN_OK it returns None, and the caller takes the general way, which finds out what is wrong.
 *
 * The declarations below are the part of CPython's stable ABI (https://docs.python.org/3/c-api/stable.html), and of numpy's ABI
 * (PyArrayObject_fields of numpy/ndarraytypes.h, the same in 1.x and 2.x), that this file uses. So one binary serves all
 * versions, and neither Python.h nor numpy's headers are needed to build it. Builds of CPython without the GIL, or with traced
 * references, have other objects: engines/native_call.py does not load this library there. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SEN_CALL_API __attribute__((visibility("default")))
#else
#define SEN_CALL_API
#endif

typedef struct object {
    intptr_t references;
    const void *type;
} object;

typedef struct method {
    const char *name;
    object *(*function)(object *self, object *argument);
    int flags;
    const char *doc;
} method;

enum { NO_ARGUMENTS = 0x0004, ONE_ARGUMENT = 0x0008 }; /* METH_NOARGS, METH_O */

typedef struct thread_state thread_state;

object *PyCFunction_NewEx(method *definition, object *self, object *module);
object *PyCapsule_New(void *pointer, const char *name, void (*destructor)(object *capsule));
void *PyCapsule_GetPointer(object *capsule, const char *name);
thread_state *PyEval_SaveThread(void);
void PyEval_RestoreThread(thread_state *state);
void Py_IncRef(object *object);
void Py_DecRef(object *object);
extern object _Py_NoneStruct;

typedef struct array {
    object head;
    void *data;
    int dimensions;
    intptr_t *shape, *strides;
    object *base, *dtype;
    int flags;
} array;

enum { C_CONTIGUOUS = 0x0001, ALIGNED = 0x0100 };

/* Outputs that are allocated without an estimate of the memory. */
enum { MAX_VALUES = 1 << 20 };

/* PyArray_NewFromDescr; takes over a reference to `dtype`. */
typedef object *create_array(
    const void *type, object *dtype, int dimensions, const intptr_t *shape, const intptr_t *strides, void *data, int flags,
    object *base);

/* A session; the same as `Caller` of engines/native_call.py, which owns it. */
typedef struct caller {
    int (*run)(void *model, const float *x, float *y, size_t rows); /* sen_run_batch, or that of a team */
    int (*run_rows)(void *model, void *work, const float *x, float *y, size_t rows);
    void *model; /* null when the session is closed */
    void *work;  /* of `run_rows`; null before the first batch */
    create_array *create;
    const void *ndarray; /* the type */
    object *float32;     /* the dtype */
    intptr_t row[2], outputs; /* shape of an input, and the number of outputs */
    int dimensions;           /* of an input */
    int is_stream_over;
    union {
        pthread_mutex_t mutex; /* of the model */
        uint64_t space[8];
    } lock;
} caller;

typedef char caller_fits[sizeof(pthread_mutex_t) <= 8 * sizeof(uint64_t) ? 1 : -1];

static object *none(void)
{
    Py_IncRef(&_Py_NoneStruct);
    return &_Py_NoneStruct;
}

static int is_float32(const caller *session, const array *x)
{
    const int flags = C_CONTIGUOUS | ALIGNED;
    return x->head.type == session->ndarray && x->dtype == session->float32 && (x->flags & flags) == flags;
}

/* Dimensions of `x` before those of an input: 1 for a batch, 0 for a single input, -1 where it is neither. */
static int batch_axes(const caller *session, const array *x)
{
    const int axes = x->dimensions - session->dimensions;
    int i;
    for (i = 0; i < session->dimensions; i++)
        if (axes < 0 || axes > 1 || x->shape[axes + i] != session->row[i])
            return -1;
    return axes;
}

/* Waits without the GIL, so that the thread that has the lock can go on. */
static void lock(caller *session)
{
    thread_state *state;
    if (pthread_mutex_trylock(&session->lock.mutex) == 0)
        return;
    state = PyEval_SaveThread();
    (void)pthread_mutex_lock(&session->lock.mutex);
    PyEval_RestoreThread(state);
}

static void unlock(caller *session)
{
    (void)pthread_mutex_unlock(&session->lock.mutex);
}

/* A status, or -1 for a closed session or without memory for a batch. Other threads run Python meanwhile. */
static int infer(caller *session, const array *x, const array *y, size_t rows)
{
    thread_state *state;
    int status = -1;
    lock(session);
    if (session->model && (rows == 1 || session->work)) {
        session->is_stream_over = 1;
        state = PyEval_SaveThread();
        status = rows == 1 ? session->run(session->model, x->data, y->data, 1)
                           : session->run_rows(session->model, session->work, x->data, y->data, rows);
        PyEval_RestoreThread(state);
    }
    unlock(session);
    return status;
}

/* An array `[outputs]`, with `axes` 1 `[rows, outputs]`. */
static object *make_outputs(const caller *session, int axes, intptr_t rows)
{
    intptr_t shape[2];
    shape[0] = axes == 1 ? rows : session->outputs;
    shape[1] = session->outputs;
    Py_IncRef(session->float32);
    return session->create(session->ndarray, session->float32, 1 + axes, shape, NULL, NULL, 0, NULL);
}

static object *run(object *self, object *argument)
{
    caller *session = PyCapsule_GetPointer(self, NULL);
    const array *x = (const array *)(const void *)argument;
    const int axes = is_float32(session, x) ? batch_axes(session, x) : -1;
    const intptr_t rows = axes == 1 ? x->shape[0] : 1;
    object *y;
    if (axes < 0 || rows < 1 || (rows > 1 && (!session->work || rows > MAX_VALUES / session->outputs)))
        return none();
    y = make_outputs(session, axes, rows);
    if (!y || infer(session, x, (const array *)(const void *)y, (size_t)rows) == 0)
        return y;
    Py_DecRef(y);
    return none();
}

static object *acquire(object *self, object *unused)
{
    (void)unused;
    lock(PyCapsule_GetPointer(self, NULL));
    return none();
}

static object *release(object *self, object *unused)
{
    (void)unused;
    unlock(PyCapsule_GetPointer(self, NULL));
    return none();
}

/* Prepares a session; 0 where arrays are others than declared here. `example` is an array `[2, 3]` of float32 in C order, whose
 * elements are at `data`. */
SEN_CALL_API int sen_call_init(caller *session, object *example, const void *data)
{
    const array *x = (const array *)(const void *)example;
    if (!is_float32(session, x) || x->data != data || x->dimensions != 2 || x->shape[0] != 2 || x->shape[1] != 3)
        return 0;
    return pthread_mutex_init(&session->lock.mutex, NULL) == 0;
}

/* A function of a session: 0 run, 1 acquire and 2 release its lock. It keeps `owners` alive. */
SEN_CALL_API object *sen_call_bind(caller *session, object *owners, int which)
{
    static method methods[] = {
        {"run", run, ONE_ARGUMENT, NULL}, {"acquire", acquire, NO_ARGUMENTS, NULL}, {"release", release, NO_ARGUMENTS, NULL}};
    object *capsule = PyCapsule_New(session, NULL, NULL), *function;
    if (!capsule)
        return NULL;
    function = PyCFunction_NewEx(&methods[which], capsule, owners);
    Py_DecRef(capsule);
    return function;
}
