/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Replaces a global function of net.bpf.c's z_xdp. */
#include "zoo_bpf.h"

SEC("freplace/zoo_verdict")
int z_freplace(struct xdp_md *ctx)
{
	return XDP_PASS;
}
