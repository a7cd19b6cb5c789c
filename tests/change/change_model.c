/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random operations on the files of an image, against the model.
 *
 *      change_model [-o MOUNT-OPTIONS] [-s SEED] [-n OPERATIONS] [-m MAX-SIZE] [-r EVERY]
 *                   [-d EXPECTED] IMAGE DIRECTORY...
 *
 * Every so many operations everything is compared, and the image mounted anew.  In the end what
 * each file holds is written to the folder EXPECTED, with a list of names, sizes and i_blocks
 * in EXPECTED/list, for others to compare with.  Exit status 77, with the reason, when the
 * image is not one that is written.
 */
#include <getopt.h>

#include "model.h"

struct options {
        const char *mount, *expected, *image;
        uint64_t seed, nr, max_size, remount;
};

static const char usage[] = "usage: change_model [-o OPTIONS] [-s SEED] [-n N] [-m SIZE] "
                            "[-r EVERY] [-d EXPECTED] IMAGE DIRECTORY...\n";

static void mount_image(struct rig_mount *m, struct uext4_bdev *dev, const struct options *o)
{
        struct uext4_info info;
        char words[256];
        int ret;

        snprintf(words, sizeof(words), "%s%s%s", RIG_OPTIONS, o->mount ? "," : "",
                 o->mount ? o->mount : "");
        ret = rig_mount(m, dev, words);
        if (ret < 0) {
                fprintf(stderr, "mount: %d\n%s", ret, m->log.text);
                exit(1);
        }
        uext4_get_info(m->fs, &info);
        if (info.readonly_reason[0]) {
                printf("SKIP: %s\n", info.readonly_reason);
                exit(77);
        }
}

static void unmount_image(struct rig_mount *m)
{
        int ret = rig_unmount(m);

        if (ret < 0 || m->log.nr_lines > 0)
                fprintf(stderr, "unmount: %d\n%s", ret, m->log.text);
        if (ret < 0)
                exit(1);
}

static void check_everything(struct model *md)
{
        const char *wrong;
        char text[128];

        model_check_all(md);
        wrong = op_check_space(md->m, text, sizeof(text));
        if (wrong)
                model_complain(md, NULL, wrong);
}

static void run(struct rig_mount *m, struct uext4_bdev *dev, struct model *md,
                const struct options *o)
{
        for (uint64_t n = 1; n <= o->nr; n++) {
                model_step(md);
                if (n % o->remount)
                        continue;
                check_everything(md);
                model_leave(md);
                unmount_image(m);
                mount_image(m, dev, o);
                (void)model_enter(md);
                md->what[0] = '\0';
                model_check_all(md);
        }
        check_everything(md);
        model_leave(md);
        unmount_image(m);
}

static FILE *create(const struct options *o, const char *name)
{
        char path[512];
        FILE *out;

        snprintf(path, sizeof(path), "%s/%s", o->expected, name);
        out = fopen(path, "w");
        T_CHECK(out);
        return out;
}

static void write_expected(struct model *md, const struct options *o)
{
        FILE *list = create(o, "list");

        for (unsigned i = 0; i < md->nr_files; i++) {
                const struct model_file *f = &md->files[i];
                const struct model_state *s = model_now(f);
                char name[32];
                FILE *out;

                if (!f->dir[0])
                        continue;
                snprintf(name, sizeof(name), "%u", i);
                fprintf(list, "%s/%s %u %d %llu\n", f->dir, f->name, i, s->exists,
                        (unsigned long long)f->last_blocks);
                out = create(o, name);
                T_CHECK(fwrite(s->bytes, 1, (size_t)s->size, out) == s->size);
                fclose(out);
        }
        fclose(list);
}

static int parse(int argc, char **argv, struct options *o)
{
        int c;

        while ((c = getopt(argc, argv, "o:s:n:m:r:d:")) != -1) {
                switch (c) {
                case 'o':
                        o->mount = optarg;
                        break;
                case 's':
                        o->seed = strtoull(optarg, NULL, 0);
                        break;
                case 'n':
                        o->nr = strtoull(optarg, NULL, 0);
                        break;
                case 'm':
                        o->max_size = strtoull(optarg, NULL, 0);
                        break;
                case 'r':
                        o->remount = strtoull(optarg, NULL, 0);
                        break;
                case 'd':
                        o->expected = optarg;
                        break;
                default:
                        return -1;
                }
        }
        if (optind + 2 > argc || o->remount == 0)
                return -1;
        o->image = argv[optind];
        return optind + 1;
}

int main(int argc, char **argv)
{
        struct options o = {.seed = 1, .nr = 200, .max_size = 1 << 20, .remount = 50};
        int first = parse(argc, argv, &o);
        struct rig_mount m;
        struct uext4_bdev *dev;
        struct model *md = t_alloc(sizeof(*md));

        if (first < 0) {
                fputs(usage, stderr);
                return 2;
        }
        if (uext4_bdev_open_mmap(o.image, 0, &dev) < 0) {
                perror(o.image);
                return 1;
        }
        mount_image(&m, dev, &o);
        model_init(md, &m, o.seed);
        md->max_size = o.max_size;
        for (int i = first; i < argc; i++)
                model_add_dir(md, argv[i]);
        run(&m, dev, md, &o);
        if (o.expected)
                write_expected(md, &o);
        printf("%llu operations, %llu without space, %llu refused\n",
               (unsigned long long)md->nr_ops, (unsigned long long)md->nr_enospc,
               (unsigned long long)md->nr_refused);
        model_done(md);
        free(md);
        uext4_bdev_close(dev);
        return 0;
}
