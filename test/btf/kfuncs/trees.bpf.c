// Objects that a program allocates, in a red-black tree.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char _license[] SEC("license") = "GPL";

#define contains(kind, node) __attribute__((btf_decl_tag("contains:" #kind ":" #node)))
#define private(name) SEC(".data." #name) __hidden __attribute__((aligned(8)))

struct item {
	u64 key;
	struct bpf_rb_node node;
};

private(tree) struct bpf_spin_lock lock;
private(tree) struct bpf_rb_root root contains(item, node);

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return container_of(a, struct item, node)->key < container_of(b, struct item, node)->key;
}

SEC("syscall")
int add_and_take(void *ctx)
{
	struct item *item = bpf_obj_new_impl(bpf_core_type_id_local(struct item), NULL);
	struct bpf_rb_node *node;

	if (!item)
		return 1;
	item->key = 7;
	bpf_spin_lock(&lock);
	bpf_rbtree_add_impl(&root, &item->node, less, NULL, 0);
	node = bpf_rbtree_first(&root);
	node = node ? bpf_rbtree_remove(&root, node) : NULL;
	bpf_spin_unlock(&lock);
	if (node)
		bpf_obj_drop_impl(container_of(node, struct item, node), NULL);
	return 0;
}
