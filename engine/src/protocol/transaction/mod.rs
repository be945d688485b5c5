//! One exchange at one service level: retry, duplicates, acknowledgement, reply.
