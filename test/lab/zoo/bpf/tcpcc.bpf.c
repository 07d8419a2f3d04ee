/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* struct_ops other than schedulers: two TCP congestion controls, one without and one with a link. No socket uses them. */
#include "zoo_bpf.h"

struct sock;
struct ack_sample;
struct rate_sample;

/* Only the members that are set. libbpf finds the kernel's members by name. */
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
};

__u64 calls;

SEC("struct_ops")
__u32 BPF_PROG(z_ssthresh, struct sock *sk)
{
	calls++;
	return 2;
}

SEC("struct_ops")
void BPF_PROG(z_cong_avoid, struct sock *sk, __u32 ack, __u32 acked)
{
	calls++;
}

SEC("struct_ops")
__u32 BPF_PROG(z_undo_cwnd, struct sock *sk)
{
	calls++;
	return 2;
}

SEC(".struct_ops")
struct tcp_congestion_ops z_cc = {
	.ssthresh = (void *)z_ssthresh,
	.cong_avoid = (void *)z_cong_avoid,
	.undo_cwnd = (void *)z_undo_cwnd,
	.name = "zoo_cc",
};

SEC(".struct_ops.link")
struct tcp_congestion_ops z_cc_link = {
	.ssthresh = (void *)z_ssthresh,
	.cong_avoid = (void *)z_cong_avoid,
	.undo_cwnd = (void *)z_undo_cwnd,
	.name = "zoo_cc_link",
};

/* Loaded but not attached: its state stays INIT. */
SEC(".struct_ops")
struct tcp_congestion_ops z_cc_idle = {
	.ssthresh = (void *)z_ssthresh,
	.cong_avoid = (void *)z_cong_avoid,
	.undo_cwnd = (void *)z_undo_cwnd,
	.name = "zoo_cc_idle",
};
