/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tree_model needs of ../change/rig.c, where there is no library (../lib/on_kernel.c). */
#include "tree.h"

int rig_mount(struct rig_mount *m, struct uext4_bdev *dev, const char *options)
{
        t_log_init(&m->log);
        return uext4_mount_bdev(dev, NULL, &m->fs);
}

int rig_unmount(struct rig_mount *m)
{
        int ret = uext4_unmount(m->fs);

        m->fs = NULL;
        return ret;
}
