/* unit_journal.h - what is known of the pictures of an unfinished unit: a record for each one that was written.
 *
 * A record is appended once its picture is in the file system's hands, without fsync: after a power loss either may be
 * missing or damaged, so every picture is compared with its record before it counts.  Each record bears the checksum of
 * its own bytes and of the set's stamp; a torn one, or one of another description, is not read. */
#ifndef DDPM_UNIT_JOURNAL_H
#define DDPM_UNIT_JOURNAL_H
#include "sample/picture_set.h"

enum { UNIT_RECORD = 48 }; /* bytes of a record on disk */

/* Read the records of unit->record[unit->n].  *exists: the unit has a journal; *tidy: it has exactly one record for each
 * picture that it knows, and nothing else. */
DDPM_MUST_CHECK ddpm_status unit_journal_read(const picture_set *set, picture_unit *unit, bool *exists, bool *tidy,
                                              err *e);
/* Replace the journal by one with the records of the pictures that are done. */
DDPM_MUST_CHECK ddpm_status unit_journal_replace(const picture_set *set, const picture_unit *unit, err *e);
/* Open to append, -1 on failure; the folder must exist. */
DDPM_MUST_CHECK ddpm_status unit_journal_open(const picture_set *set, int64_t unit, int *fd, err *e);
DDPM_MUST_CHECK ddpm_status unit_journal_append(const picture_set *set, int fd, int64_t id, const picture_record *r,
                                                err *e);
/* Has the unit's journal as many records as the unit has pictures?  -1: there is no journal. */
int unit_journal_is_full(const picture_set *set, const picture_unit *unit);

#endif
