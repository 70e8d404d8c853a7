"""Policies in the manner of MOM and of vdsm, with everything that the reference's section 15 says that those rely on."""

from __future__ import annotations

from collections.abc import Mapping

MOM_BALLOON = """
### Guests give memory when the host has little, and get it back when it has enough.
(defvar pressure_threshold 0.20)   # of all memory
(defvar max_balloon_change_percent 0.05)
(defvar min_guest_free_percent 0.201)
(defvar min_balloon_change_percent 0.0025)

(def change_is_big_enough (guest new_size)
{
    (if (> (abs (- new_size guest.balloon_cur))
           (* min_balloon_change_percent guest.balloon_cur)) 1 0)
})

(def shrink_guest (guest)
{
    # how much the guest uses
    (defvar guest_used_mem (- (guest.StatAvg "balloon_cur") (guest.StatAvg "mem_unused")))
    (defvar guest_free_percent (if (> host_free_percent 0.05) min_guest_free_percent 0.10))
    (defvar min_mem (max guest.balloon_min (+ guest_used_mem (* guest_free_percent guest.balloon_cur))))
    (defvar shrink_size (max min_mem (* guest.balloon_cur (- 1 max_balloon_change_percent))))
    (if (and (<= shrink_size guest.balloon_cur) (change_is_big_enough guest shrink_size))
        (guest.Control "balloon_target" shrink_size) 0)
})

(def grow_guest (guest)
{
    (defvar grown (min (* guest.balloon_cur (+ 1 max_balloon_change_percent)) guest.balloon_max))
    (if (change_is_big_enough guest grown) (guest.Control "balloon_target" grown) 0)
})

(defvar host_free_percent (/ (Host.StatAvg "mem_free") Host.mem_available))
(if (< host_free_percent pressure_threshold)
    (with Guests guest (shrink_guest guest))
    (with Guests guest (grow_guest guest)))
"""

MOM_KSM = """
(defvar ksm_pages_boost 300)
(defvar ksm_pages_decay -50)
(defvar ksm_npages_min 64)
(defvar ksm_npages_max 1250)
(defvar ksm_sleep_ms_baseline 10)
(defvar ksm_free_percent 0.20)

(def change_npages (delta)
{
    (defvar newval (+ Host.ksm_pages_to_scan delta))
    (if (> newval ksm_npages_max) (set newval ksm_npages_max) 1)
    (if (< newval ksm_npages_min) (set newval ksm_npages_min) 0)
    (Host.Control "ksm_pages_to_scan" newval)
})

(defvar ksm_sleep_ms (/ (* ksm_sleep_ms_baseline 16777216) Host.mem_available))
(Host.Control "ksm_sleep_millisecs" ksm_sleep_ms)
(defvar guests_size 0)
(with Guests guest (set guests_size (+ guests_size guest.balloon_cur)))
(if (< Host.mem_free (* ksm_free_percent Host.mem_available)) {
    (Host.Control "ksm_run" 1)
    (change_npages ksm_pages_boost) }{
    (change_npages ksm_pages_decay)
    (if (> (+ guests_size 0) Host.mem_available) (Host.Control "ksm_run" 1) (Host.Control "ksm_run" 0)) })
"""

VDSM: Mapping[str, str] = {
    "00-defines": """
# Python writes its truth values so
(defvar False 0)
(defvar True 1)
(defvar ksmEnabled True)
(defvar balloonEnabled True)
(defvar ksmMergeAcrossNodes True)
""",
    "01-parameters": "(set ksmEnabled False)\n(set balloonEnabled True)\n(set ksmMergeAcrossNodes 1)",
    "02-balloon": MOM_BALLOON,
    "03-ksm": "(if (!= Host.ksm_merge_across_nodes ksmMergeAcrossNodes)\n"
    "  (Host.Control 'ksm_merge_across_nodes' ksmMergeAcrossNodes) 0)\n" + MOM_KSM,
    "04-cputune": """
(defvar anchor 100000)
(def calculate (vm)
{
    (defvar quota -1)
    (defvar period anchor)
    (if (and (valid vm.vcpu_user_limit)) {
        (set quota (/ (* anchor (* vm.vcpu_user_limit Host.cpu_count)) (* 100 vm.vcpu_count)))
        (if (< quota 1000) (set quota 1000) 0) } 0)
    (vm.Control "vcpu_quota" quota)
    (vm.Control "vcpu_period" period)
    (debug "quota of" vm quota)
})
(with Guests guest (calculate guest))
""",
    "05-iotune": """
(def tuned (wanted limit) (if (null wanted) limit (if (null limit) wanted (min wanted limit))))
(with Guests guest
    (if (valid guest.io_tune)
        (with guest.io_tune tune {
            (defvar guaranteed tune.guaranteed)
            (defvar maximum tune.maximum)
            (tune.setTotalBytesSec (tuned guaranteed.total_bytes_sec maximum.total_bytes_sec))
            (tune.setReadIopsSec (tuned guaranteed.read_iops_sec maximum.read_iops_sec))
        })
        0))
""",
    "09-nothing": "# only a comment, and no line break at the end",
}
"""A set of named policies, the second of which is what the management sends."""
