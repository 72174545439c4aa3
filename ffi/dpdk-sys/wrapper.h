/*
 * What flowmob uses of DPDK, and no more: build.rs lists the names, this file the headers.
 *
 * The few definitions below put into reach what bindgen cannot see: thread-local variables and
 * macros with casts. They are `static inline`, so they become C shims like DPDK's own inlines.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <rte_config.h>
#include <rte_errno.h>
#include <rte_version.h>
#include <rte_log.h>
#include <rte_eal.h>
#include <rte_alarm.h>
#include <rte_lcore.h>
#include <rte_dev.h>
#include <rte_mempool.h>
#include <rte_mbuf.h>
#include <rte_ethdev.h>

/* `rte_errno` is a thread-local behind a macro. */
static inline int dpdk_sys_errno(void) { return rte_errno; }

/* So is the lcore id, DPDK_SYS_LCORE_ANY in a thread unknown to DPDK. */
static inline unsigned int dpdk_sys_lcore_id(void) { return rte_lcore_id(); }
static const unsigned int DPDK_SYS_LCORE_ANY = LCORE_ID_ANY;

/* An int in the header, but 16 bits wherever it is used. */
static const uint16_t DPDK_SYS_HEADROOM = RTE_PKTMBUF_HEADROOM;

/* RTE_ETH_RSS_* are casts and shifts in macros. */
static const uint64_t DPDK_SYS_RSS_IPV6 = RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_FRAG_IPV6 |
	RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP |
	RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

/* A bit of a device's flags: it tells of changes of its link. */
static const uint32_t DPDK_SYS_LINK_INTERRUPT = RTE_ETH_DEV_INTR_LSC;

/*
 * The stable head of `struct rte_mbuf`. Later releases moved these fields into anonymous unions,
 * which changes their names in Rust but not their place; the assertions hold that.
 */
struct dpdk_sys_mbuf_head {
	void *buf_addr;
	uint64_t iova_or_next;
	uint16_t data_off;
	uint16_t refcnt;
	uint16_t nb_segs;
	uint16_t port;
	uint64_t ol_flags;
	uint32_t packet_type;
	uint32_t pkt_len;
	uint16_t data_len;
	uint16_t vlan_tci;
	uint32_t hash[2];
	uint16_t vlan_tci_outer;
	uint16_t buf_len;
	struct rte_mempool *pool;
};

#define DPDK_SYS_SAME_PLACE(field) \
	_Static_assert(offsetof(struct dpdk_sys_mbuf_head, field) == \
		offsetof(struct rte_mbuf, field), "rte_mbuf." #field " has moved")
DPDK_SYS_SAME_PLACE(buf_addr);
DPDK_SYS_SAME_PLACE(data_off);
DPDK_SYS_SAME_PLACE(nb_segs);
DPDK_SYS_SAME_PLACE(ol_flags);
DPDK_SYS_SAME_PLACE(pkt_len);
DPDK_SYS_SAME_PLACE(data_len);
DPDK_SYS_SAME_PLACE(buf_len);
DPDK_SYS_SAME_PLACE(pool);
