/*
 * Debian 13's libelf.a (elfutils 0.192) calls these two functions of an internal library, which no package contains
 * as an archive. They serve a tree of raw chunks (elf_getdata_rawchunk), which libbpf does not use: the tree is empty.
 */
void eu_search_tree_init(void *tree) { (void)tree; }
void eu_search_tree_fini(void *tree, void (*free_node)(void *))
{
	(void)tree;
	(void)free_node;
}
