/* Threads that run the parts of a task. */
#ifndef SEN_POOL_H
#define SEN_POOL_H

#include <stdint.h>

typedef struct sen_pool sen_pool;

/* Part `index` of a task. */
typedef void sen_part(void *task, uint32_t index);

/* A pool of `size` threads, the caller's included; null where memory or threads are exhausted. */
sen_pool *sen_pool_open(uint32_t size);

/* Runs all parts of a task, and returns when they are done; for one caller at a time. */
void sen_pool_run(sen_pool *pool, sen_part *run, void *task, uint32_t count);

void sen_pool_close(sen_pool *pool);

#endif
