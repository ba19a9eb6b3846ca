/* A pool of POSIX threads. They spin for a short time when a task is done, then sleep. */
#define _POSIX_C_SOURCE 200809L
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* How long a thread waits for more work before it sleeps: products of one inference follow each other. */
#define SPIN_NS 50000

struct sen_pool {
    pid_t pid;
    sen_part *run;
    void *task;
    int32_t left;        /* parts that nobody has taken; below 0, too */
    int32_t unfinished;  /* parts */
    int32_t sleeping;    /* threads */
    int is_over;
    pthread_mutex_t mutex;
    pthread_cond_t has_work, has_ended;
    uint32_t size, started; /* threads: with the caller's, without */
    pthread_t threads[];
};

static int32_t load(const int32_t *value)
{
    return __atomic_load_n(value, __ATOMIC_SEQ_CST);
}

/* Runs a part that nobody has taken; 0 where there is none. Only the task to which a part belongs can be running. */
static int take_part(sen_pool *pool)
{
    const int32_t left = load(&pool->left) > 0 ? __atomic_fetch_sub(&pool->left, 1, __ATOMIC_SEQ_CST) : 0;
    if (left <= 0)
        return 0;
    pool->run(pool->task, (uint32_t)left - 1);
    if (__atomic_sub_fetch(&pool->unfinished, 1, __ATOMIC_SEQ_CST) == 0) {
        (void)pthread_mutex_lock(&pool->mutex);
        (void)pthread_cond_signal(&pool->has_ended);
        (void)pthread_mutex_unlock(&pool->mutex);
    }
    return 1;
}

/* Waits a short time for `value` to be positive, or not; whether it is. */
static int spin(const int32_t *value, int is_positive)
{
    struct timespec start, now;
    int i;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (i = 0; i < 64; i++) {
            if ((load(value) > 0) == is_positive)
                return 1;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__ARM_ARCH_7A__)
            __asm__ volatile("yield");
#endif
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000000LL + (now.tv_nsec - start.tv_nsec) < SPIN_NS);
    return 0;
}

static void *work(void *argument)
{
    sen_pool *pool = argument;
    int is_over = 0;
    while (!is_over) {
        while (take_part(pool)) {
        }
        if (spin(&pool->left, 1))
            continue;
        (void)pthread_mutex_lock(&pool->mutex);
        (void)__atomic_add_fetch(&pool->sleeping, 1, __ATOMIC_SEQ_CST);
        while (load(&pool->left) <= 0 && !pool->is_over)
            (void)pthread_cond_wait(&pool->has_work, &pool->mutex);
        (void)__atomic_sub_fetch(&pool->sleeping, 1, __ATOMIC_SEQ_CST);
        is_over = pool->is_over;
        (void)pthread_mutex_unlock(&pool->mutex);
    }
    return NULL;
}

/* In a process that was forked there are no other threads, and the mutex may be locked for ever. */
void sen_pool_run(sen_pool *pool, sen_part *run, void *task, uint32_t count)
{
    uint32_t i;
    if (count < 2 || getpid() != pool->pid) {
        for (i = 0; i < count; i++)
            run(task, i);
        return;
    }
    pool->run = run;
    pool->task = task;
    __atomic_store_n(&pool->unfinished, (int32_t)count, __ATOMIC_SEQ_CST);
    __atomic_store_n(&pool->left, (int32_t)count, __ATOMIC_SEQ_CST);
    if (load(&pool->sleeping) > 0) {
        (void)pthread_mutex_lock(&pool->mutex);
        (void)pthread_cond_broadcast(&pool->has_work);
        (void)pthread_mutex_unlock(&pool->mutex);
    }
    while (take_part(pool)) {
    }
    if (spin(&pool->unfinished, 0))
        return;
    (void)pthread_mutex_lock(&pool->mutex);
    while (load(&pool->unfinished) > 0)
        (void)pthread_cond_wait(&pool->has_ended, &pool->mutex);
    (void)pthread_mutex_unlock(&pool->mutex);
}

/* Starts the threads, which no signal interrupts; 0 where one does not start. */
static int start(sen_pool *pool)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->started + 1 < pool->size
           && pthread_create(&pool->threads[pool->started], NULL, work, pool) == 0)
        pool->started++;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool->started + 1 == pool->size;
}

sen_pool *sen_pool_open(uint32_t size)
{
    sen_pool *pool = calloc(1, sizeof *pool + size * sizeof(pthread_t));
    if (!pool)
        return NULL;
    pool->size = size;
    pool->pid = getpid();
    (void)pthread_mutex_init(&pool->mutex, NULL);
    (void)pthread_cond_init(&pool->has_work, NULL);
    (void)pthread_cond_init(&pool->has_ended, NULL);
    if (start(pool))
        return pool;
    sen_pool_close(pool);
    return NULL;
}

void sen_pool_close(sen_pool *pool)
{
    uint32_t i;
    if (getpid() == pool->pid) {
        (void)pthread_mutex_lock(&pool->mutex);
        pool->is_over = 1;
        (void)pthread_cond_broadcast(&pool->has_work);
        (void)pthread_mutex_unlock(&pool->mutex);
        for (i = 0; i < pool->started; i++)
            (void)pthread_join(pool->threads[i], NULL);
    }
    free(pool);
}
