/* Threads for a model: the rows of a batch, or the outputs of one input, are computed by several at once. POSIX; a part of the
 * library for Python only, as it takes heap. */
#ifndef SEN_THREADS_H
#define SEN_THREADS_H

#include "sen.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sen_team sen_team;

/* A team of `threads` for a model, which must stay where it is: the caller's thread, and others that it starts. Null where memory
 * or threads are exhausted. Like a model, it is used by one thread at a time. */
SEN_API sen_team *sen_team_open(sen_model *model, uint32_t threads);

/* sen_run_batch: one input after the other, the outputs of large layers in shares. Results are the same to the bit. */
SEN_API sen_status sen_team_run(sen_team *team, const float *x, float *y, size_t rows);

/* sen_run_rows: the rows in shares, or the outputs of large layers. `work` has sen_rows_work_size bytes for each thread. Results
 * are the same to the bit; rows behind one that is not finite may be written. */
SEN_API sen_status sen_team_run_rows(sen_team *team, void *work, const float *x, float *y, size_t rows);

/* Ends the threads. In a process that was forked there are none: the team still runs there, in the caller's thread. */
SEN_API void sen_team_close(sen_team *team);

#ifdef __cplusplus
}
#endif

#endif
