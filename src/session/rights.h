/* rights.h: what a key may do with a topic or a filter. A key's rights are MQTT filters over the
 * original topic (core/conf.h); `$SYS` is a right of its own (LV_VERB_SYS) and nothing else gives
 * it. As a right, `#` is everything else, other `$…` topics included (as a subscription it matches
 * none of those). A NULL key is an anonymous client, who has that right. @thread any */
#ifndef LV_SESSION_RIGHTS_H
#define LV_SESSION_RIGHTS_H
#include "core/conf.h"

/* Whether the key may publish to this topic. `$SYS` topics: false. */
bool lv_key_may_publish(const lv_key *key, lv_slice topic);
/* Whether the filter (without `$share/GROUP/`) can match anything the key may read. ret_all:
 * everything it matches may be read, so that deliveries need no check. */
bool lv_key_may_subscribe(const lv_key *key, lv_slice filter, bool *ret_all);
/* Whether the key may read this topic. */
bool lv_key_may_read(const lv_key *key, lv_slice topic);

#endif
