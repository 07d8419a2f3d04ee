// Dynptrs over packets, and slices of them.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

char _license[] SEC("license") = "GPL";

u64 bytes, packets;

SEC("xdp")
int first_bytes(struct xdp_md *ctx)
{
	struct ethhdr buffer, *eth;
	struct bpf_dynptr packet;

	if (bpf_dynptr_from_xdp(ctx, 0, &packet))
		return XDP_PASS;
	bytes += bpf_dynptr_size(&packet);
	eth = bpf_dynptr_slice(&packet, 0, &buffer, sizeof(buffer));
	if (eth && eth->h_proto == bpf_htons(0x0800))
		packets++;
	return XDP_PASS;
}

SEC("tc")
int clear_first(struct __sk_buff *skb)
{
	struct bpf_dynptr packet, rest;
	u8 *byte;

	if (bpf_dynptr_from_skb(skb, 0, &packet) || bpf_dynptr_is_rdonly(&packet))
		return 0;
	if (bpf_dynptr_clone(&packet, &rest) || bpf_dynptr_adjust(&rest, 1, bpf_dynptr_size(&rest)))
		return 0;
	byte = bpf_dynptr_slice_rdwr(&rest, 0, NULL, 1);
	if (byte)
		*byte = 0;
	return 0;
}
