/* The ends of the region whose instructions plugin.c counts. */
#ifndef MARKERS_H
#define MARKERS_H

void sen_count_start(void);
void sen_count_stop(void);

#endif
