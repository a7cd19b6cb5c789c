/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The nodes: what the kernel knows of.
 *
 * A node id is the number of the inode, but 1 for the root.  So the kernel can ask for what it
 * has forgotten (file handles, as NFS has them), and no id is given to two inodes at a time: as
 * long as a node is here it holds a reference, and the number is not free.
 *
 * A node goes when the kernel has forgotten it as often as it was told of it, and no handle is
 * left.  Who serves a request of a node needs no reference: the kernel forgets nothing that it
 * is asking about.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "fuse/internal.h"

enum {
        FIRST_BUCKETS = 16, /* of a shard */
};

static uint64_t hash_of(uint64_t nodeid)
{
        return nodeid * 0x9e3779b97f4a7c15u;
}

static struct srv_shard *shard_of(struct fuse_server *server, uint64_t nodeid)
{
        return &server->shards[hash_of(nodeid) >> 58];
}

static struct srv_node_list *bucket_of(const struct srv_shard *shard, uint64_t nodeid)
{
        return &shard->buckets[hash_of(nodeid) >> 16 & (shard->nr_buckets - 1)];
}

static struct srv_node *find_locked(const struct srv_shard *shard, uint64_t nodeid)
{
        struct srv_node *node;

        LIST_FOREACH (node, bucket_of(shard, nodeid), link) {
                if (node->nodeid == nodeid)
                        return node;
        }
        return NULL;
}

struct srv_node *srv_node_find(struct fuse_server *server, uint64_t nodeid)
{
        struct srv_shard *shard = shard_of(server, nodeid);
        struct srv_node *node;

        pthread_mutex_lock(&shard->lock);
        node = find_locked(shard, nodeid);
        pthread_mutex_unlock(&shard->lock);
        return node;
}

/* More buckets when lists become long.  That there is no memory for it does not matter. */
static void grow_locked(struct srv_shard *shard)
{
        struct srv_shard larger = {.nr_buckets = shard->nr_buckets * 2};
        struct srv_node *node;

        if (shard->nr_nodes <= shard->nr_buckets)
                return;
        larger.buckets = calloc(larger.nr_buckets, sizeof(larger.buckets[0]));
        if (!larger.buckets)
                return;
        for (size_t i = 0; i < shard->nr_buckets; i++) {
                while ((node = LIST_FIRST(&shard->buckets[i]))) {
                        LIST_REMOVE(node, link);
                        LIST_INSERT_HEAD(bucket_of(&larger, node->nodeid), node, link);
                }
        }
        free(shard->buckets);
        shard->buckets = larger.buckets;
        shard->nr_buckets = larger.nr_buckets;
}

/* A node for the inode, which has none; it takes over the reference if there is memory. */
static struct srv_node *add_locked(struct srv_shard *shard, uint64_t nodeid,
                                   struct uext4_inode *inode)
{
        struct srv_node *node = calloc(1, sizeof(*node));

        if (!node)
                return NULL;
        node->nodeid = nodeid;
        node->inode = inode;
        grow_locked(shard);
        LIST_INSERT_HEAD(bucket_of(shard, nodeid), node, link);
        shard->nr_nodes++;
        return node;
}

int srv_node_enter(struct fuse_server *server, struct uext4_inode *inode, uint64_t ino,
                   struct srv_node **ret_node)
{
        const uint64_t nodeid = ino == UEXT4_ROOT_INO ? FUSE_ROOT_ID : ino;
        struct srv_shard *shard = shard_of(server, nodeid);
        struct uext4_inode *spare = inode;
        struct srv_node *node;

        pthread_mutex_lock(&shard->lock);
        node = find_locked(shard, nodeid);
        if (!node) {
                node = add_locked(shard, nodeid, inode);
                spare = node ? NULL : inode;
        }
        if (node)
                node->nr_lookups++;
        pthread_mutex_unlock(&shard->lock);
        uext4_inode_put(spare);
        *ret_node = node;
        return node ? 0 : -ENOMEM;
}

/* It is nobody's any more: to be freed without the lock, because that may take time. */
static struct srv_node *take_if_unused_locked(struct srv_shard *shard, struct srv_node *node)
{
        if (node->nr_lookups > 0 || node->nr_handles > 0)
                return NULL;
        LIST_REMOVE(node, link);
        shard->nr_nodes--;
        return node;
}

static void free_node(struct fuse_server *server, struct srv_node *node)
{
        struct uext4_stat st;
        bool is_last;

        if (!node)
                return;
        is_last = uext4_stat(node->inode, &st) == 0 && st.nlink == 0;
        if (is_last)
                srv_space_freeing(server);
        uext4_close(node->writer);
        uext4_inode_put(node->inode);
        if (is_last)
                srv_space_freed(server);
        free(node);
}

void srv_node_forget(struct fuse_server *server, uint64_t nodeid, uint64_t nr_lookups)
{
        struct srv_shard *shard = shard_of(server, nodeid);
        struct srv_node *node;

        if (nodeid == FUSE_ROOT_ID)
                return;
        pthread_mutex_lock(&shard->lock);
        node = find_locked(shard, nodeid);
        if (node) {
                node->nr_lookups -=
                        nr_lookups < node->nr_lookups ? nr_lookups : node->nr_lookups;
                node = take_if_unused_locked(shard, node);
        }
        pthread_mutex_unlock(&shard->lock);
        free_node(server, node);
}

void srv_node_hold(struct fuse_server *server, struct srv_node *node)
{
        struct srv_shard *shard = shard_of(server, node->nodeid);

        pthread_mutex_lock(&shard->lock);
        node->nr_handles++;
        pthread_mutex_unlock(&shard->lock);
}

void srv_node_release(struct fuse_server *server, struct srv_node *node)
{
        struct srv_shard *shard = shard_of(server, node->nodeid);

        pthread_mutex_lock(&shard->lock);
        node->nr_handles--;
        node = take_if_unused_locked(shard, node);
        pthread_mutex_unlock(&shard->lock);
        free_node(server, node);
}

int srv_node_writer(struct fuse_server *server, struct srv_node *node,
                    struct uext4_file **ret_file)
{
        struct srv_shard *shard = shard_of(server, node->nodeid);
        const struct uext4_cred *before;
        struct uext4_file *spare;
        int ret;

        pthread_mutex_lock(&shard->lock);
        *ret_file = node->writer;
        pthread_mutex_unlock(&shard->lock);
        if (*ret_file)
                return 0;
        before = uext4_cred_use(NULL);
        ret = uext4_open(node->inode, O_RDWR, &spare);
        uext4_cred_use(before);
        if (ret < 0)
                return ret;
        pthread_mutex_lock(&shard->lock);
        if (!node->writer) {
                node->writer = spare;
                spare = NULL;
        }
        *ret_file = node->writer;
        pthread_mutex_unlock(&shard->lock);
        uext4_close(spare);
        return 0;
}

/* ---- all of them ---- */

static int add_root(struct fuse_server *server)
{
        struct uext4_inode *root;
        struct srv_node *node;
        int ret = uext4_inode_get(server->fs, UEXT4_ROOT_INO, 0, &root);

        return ret < 0 ? ret : srv_node_enter(server, root, UEXT4_ROOT_INO, &node);
}

int srv_nodes_init(struct fuse_server *server)
{
        for (int i = 0; i < SRV_NR_SHARDS; i++) {
                struct srv_shard *shard = &server->shards[i];

                pthread_mutex_init(&shard->lock, NULL);
                shard->buckets = calloc(FIRST_BUCKETS, sizeof(shard->buckets[0]));
                if (!shard->buckets)
                        return -ENOMEM;
                shard->nr_buckets = FIRST_BUCKETS;
        }
        return add_root(server);
}

void srv_nodes_done(struct fuse_server *server)
{
        for (int i = 0; i < SRV_NR_SHARDS; i++) {
                struct srv_shard *shard = &server->shards[i];
                struct srv_node *node;

                for (size_t k = 0; k < shard->nr_buckets; k++) {
                        while ((node = LIST_FIRST(&shard->buckets[k]))) {
                                LIST_REMOVE(node, link);
                                free_node(server, node);
                        }
                }
                free(shard->buckets);
                shard->buckets = NULL;
                shard->nr_buckets = 0;
        }
}
