/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Programs for network hooks. All of them accept every packet. */
#include "zoo_bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} z_packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} z_sockmap SEC(".maps"), z_sockmap_progs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4);
	__uint(key_size, 6);
	__type(value, __u64);
} z_sockhash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} z_reuseport SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&z_packets, &which);
	if (n)
		__sync_fetch_and_add(n, 1);
}

SEC("socket")
int z_filter(struct __sk_buff *skb)
{
	count(0);
	return (int)skb->len;
}

/* A global function, which ext.bpf.c replaces. */
__attribute__((noinline)) int zoo_verdict(struct xdp_md *ctx)
{
	int verdict = XDP_PASS;
	/* Hides the result from the compiler, which would otherwise remove the call. */
	__asm__ volatile("" : "+r"(verdict) : "r"(ctx));
	return verdict;
}

SEC("xdp")
int z_xdp(struct xdp_md *ctx)
{
	count(1);
	return zoo_verdict(ctx);
}

SEC("xdp/devmap")
int z_xdp_devmap(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp/cpumap")
int z_xdp_cpumap(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("tcx/ingress")
int z_tcx(struct __sk_buff *skb)
{
	count(2);
	return -1; /* TCX_NEXT */
}

SEC("tc")
int z_tc(struct __sk_buff *skb)
{
	count(3);
	return 0;
}

SEC("tc")
int z_clsact(struct __sk_buff *skb)
{
	count(7);
	return -1; /* TC_ACT_UNSPEC, TCX_NEXT */
}

SEC("netkit/primary")
int z_netkit(struct __sk_buff *skb)
{
	return -1; /* NETKIT_NEXT */
}

SEC("action")
int z_action(struct __sk_buff *skb)
{
	return 0;
}

SEC("sk_lookup")
int z_sk_lookup(struct bpf_sk_lookup *ctx)
{
	count(4);
	return SK_PASS;
}

SEC("flow_dissector")
int z_dissector(struct __sk_buff *skb)
{
	return 129; /* BPF_FLOW_DISSECTOR_CONTINUE */
}

SEC("netfilter")
int z_netfilter(void *ctx)
{
	count(5);
	return 1; /* NF_ACCEPT */
}

SEC("sk_msg")
int z_sk_msg(struct sk_msg_md *msg)
{
	count(6);
	return SK_PASS;
}

SEC("sk_skb/stream_verdict")
int z_sk_skb(struct __sk_buff *skb)
{
	return SK_PASS;
}

SEC("sk_reuseport")
int z_sk_reuseport(struct sk_reuseport_md *ctx)
{
	__u32 key = 0;
	bpf_sk_select_reuseport(ctx, &z_reuseport, &key, 0);
	return SK_PASS;
}

SEC("lwt_in")
int z_lwt_in(struct __sk_buff *skb)
{
	return 0;
}

SEC("lwt_out")
int z_lwt_out(struct __sk_buff *skb)
{
	return 0;
}

SEC("lwt_xmit")
int z_lwt_xmit(struct __sk_buff *skb)
{
	return 0;
}

SEC("lwt_seg6local")
int z_seg6local(struct __sk_buff *skb)
{
	return 0;
}

SEC("lirc_mode2")
int z_lirc(unsigned int *sample)
{
	return 0;
}
