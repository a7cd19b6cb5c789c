/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random changes of a tree by several threads at once, against a model.
 *
 *      tree_model [-o MOUNT-OPTIONS] [-s SEED] [-n CALLS] [-r ROUNDS] [-t THREADS]
 *                 [-d LIST] IMAGE
 *
 * All threads work in the same directories, /s0 to /s3, but each on names of its own there, and
 * in directories of its own below: what each call answers is known.  Beside that all make,
 * rename and remove names that belong to nobody ("x0"), where it is not.  After each of
 * ROUNDS everything is compared, and the image mounted anew.  LIST gets what is there in the
 * end, for others to compare.  Exit status 77, with the reason, when the image is not written.
 */
#include <getopt.h>

#include "tree.h"

struct options {
        const char *mount, *list, *image;
        uint64_t seed, nr, rounds, threads;
};

static const char usage[] = "usage: tree_model [-o OPTIONS] [-s SEED] [-n N] [-r ROUNDS] "
                            "[-t THREADS] [-d LIST] IMAGE\n";

struct run {
        const struct options *o;
        struct rig_mount m;
        struct tree trees[MAX_TREES];
};

static void mount_image(struct run *r, struct uext4_bdev *dev)
{
        struct uext4_info info;
        char words[256];
        int ret;

        snprintf(words, sizeof(words), "%s%s%s", RIG_OPTIONS, r->o->mount ? "," : "",
                 r->o->mount ? r->o->mount : "");
        ret = rig_mount(&r->m, dev, words);
        if (ret < 0) {
                fprintf(stderr, "mount: %d\n%s", ret, r->m.log.text);
                exit(1);
        }
        uext4_get_info(r->m.fs, &info);
        if (info.readonly_reason[0]) {
                printf("SKIP: %s\n", info.readonly_reason);
                exit(77);
        }
}

static void unmount_image(struct run *r)
{
        int ret = rig_unmount(&r->m);

        if (ret < 0 || r->m.log.nr_lines > 0)
                fprintf(stderr, "unmount: %d\n%s", ret, r->m.log.text);
        if (ret < 0)
                exit(1);
}

static void make_shared(struct run *r)
{
        struct uext4_inode *root = NULL;
        char name[8];
        int ret;

        T_CHECK(uext4_resolve(r->m.fs, "/", 0, &root) == 0);
        for (unsigned i = 0; i < NR_SHARED; i++) {
                snprintf(name, sizeof(name), "s%u", i);
                ret = uext4_mkdir(root, name, strlen(name), 0755, NULL);
                if (ret < 0) {
                        fprintf(stderr, "mkdir %s: %d\n", name, ret);
                        exit(1);
                }
        }
        uext4_inode_put(root);
}

static void work(void *arg, unsigned n)
{
        struct run *r = arg;
        struct tree *t = &r->trees[n];

        for (uint64_t i = 0; i < r->o->nr; i++)
                tree_step(t);
}

static void round_of(struct run *r)
{
        for (unsigned i = 0; i < r->o->threads; i++)
                tree_enter(&r->trees[i], r->m.fs);
        t_run_threads((unsigned)r->o->threads, work, r);
        for (unsigned i = 0; i < r->o->threads; i++)
                tree_check(&r->trees[i]);
        tree_check_strangers(r->trees, (unsigned)r->o->threads);
        for (unsigned i = 0; i < r->o->threads; i++)
                tree_leave(&r->trees[i]);
}

static void check_again(struct run *r)
{
        for (unsigned i = 0; i < r->o->threads; i++) {
                tree_enter(&r->trees[i], r->m.fs);
                tree_check(&r->trees[i]);
                tree_leave(&r->trees[i]);
        }
}

static void write_list(struct run *r)
{
        FILE *out = fopen(r->o->list, "w");

        T_CHECK(out);
        tree_write_list(r->m.fs, out);
        fclose(out);
}

static int run(const struct options *o)
{
        static struct run r;
        struct uext4_bdev *dev;
        uint64_t nr_done = 0, nr_refused = 0;

        r.o = o;
        T_CHECK(uext4_bdev_open(o->image, 0, NULL, NULL, &dev) == 0);
        mount_image(&r, dev);
        make_shared(&r);
        for (unsigned i = 0; i < o->threads; i++)
                tree_init(&r.trees[i], i, o->seed);
        for (uint64_t k = 0; k < o->rounds; k++) {
                round_of(&r);
                unmount_image(&r);
                mount_image(&r, dev);
                check_again(&r);
        }
        if (o->list)
                write_list(&r);
        unmount_image(&r);
        uext4_bdev_close(dev);
        for (unsigned i = 0; i < o->threads; i++) {
                nr_done += r.trees[i].nr_done;
                nr_refused += r.trees[i].nr_refused;
        }
        printf("%llu changes, %llu refusals\n", (unsigned long long)nr_done,
               (unsigned long long)nr_refused);
        return 0;
}

int main(int argc, char **argv)
{
        struct options o = {.seed = 1, .nr = 1000, .rounds = 3, .threads = 3};
        int c;

        while ((c = getopt(argc, argv, "o:s:n:r:t:d:")) != -1) {
                switch (c) {
                case 'o':
                        o.mount = optarg;
                        break;
                case 's':
                        o.seed = strtoull(optarg, NULL, 0);
                        break;
                case 'n':
                        o.nr = strtoull(optarg, NULL, 0);
                        break;
                case 'r':
                        o.rounds = strtoull(optarg, NULL, 0);
                        break;
                case 't':
                        o.threads = strtoull(optarg, NULL, 0);
                        break;
                case 'd':
                        o.list = optarg;
                        break;
                default:
                        fputs(usage, stderr);
                        return 2;
                }
        }
        if (optind + 1 != argc || o.threads == 0 || o.threads > MAX_TREES) {
                fputs(usage, stderr);
                return 2;
        }
        o.image = argv[optind];
        return run(&o);
}
