#ifndef NETWORK_NAMESPACE_H
#define NETWORK_NAMESPACE_H

/* Moves the calling thread, and no other, into a new network namespace. 0 or an errno. */
int network_namespace_enter_new(void);

#endif
