#ifndef SPAWN_EXTRA_H
#define SPAWN_EXTRA_H

/* GNU extensions that Swift's Glibc module does not show. Both return 0 or an errno. */

/* The child closes every descriptor from `first` on; `actions` is a posix_spawn_file_actions_t. */
int spawn_close_from(void *actions, int first);

/* A pipe whose ends are closed by exec. */
int spawn_pipe(int ends[2]);

#endif
