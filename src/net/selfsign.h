/* selfsign.h: a certificate of our own for a development instance. */
#ifndef LV_NET_SELFSIGN_H
#define LV_NET_SELFSIGN_H
#include <stdbool.h>

/* Makes sure that PEM files with a usable self-signed certificate and its key exist: EC P-256,
 * CN "Lavva development", SAN localhost, 127.0.0.1 and ::1, valid for 10 years less a day, usable
 * as its own CA by clients. A pair that fits together and is valid for another 30 days is kept;
 * otherwise a new one replaces it. Files appear whole (temporary name, fsync, rename), the key with
 * mode 0600 from its first byte. ret_made (may be NULL): whether a new one was made. why: >= 256
 * bytes. LV_E_IO and the like. @thread main */
int lv_selfsign_ensure(const char *cert_path, const char *key_path, bool *ret_made, char *why);

#endif
