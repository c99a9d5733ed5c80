"""A model as data: what the one compiled log-density is told to do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int32]

# Kinds of instructions: what is added to a linear form.
COLUMN, EFFECT, FORM, LOG = range(4)


class Program(NamedTuple):
    """A model as data.

    The unconstrained point holds one number for each parameter of `numbers`, and then those that
    the covariances and effects say.

    Parameters
    ----------
    origin, unit : floats (size,)
        The unconstrained point is ``origin + unit * z``, z being what is sampled.
    numbers : floats (parameters, width)
        Prior and transform of each, as `encoded.encode` writes them.
    columns : floats
        Columns, offsets and multipliers that the instructions refer to.
    etas : floats
        Parameter of each correlation prior.
    stats : floats
        What the family's kernel knows of the outcome; where residuals are correlated, the outcome.
    reference : floats (terms,)
        Coefficients that the outcome was reduced by, where effects are integrated out.
    ZZ, ZX, Zy, rows, yy, Xy, XX : floats
        See `elimination.Records` and `normal.Totals`.
    link, sum_y, sum_X, pair : floats
        See `normal.Coupling`.
    weights : floats (twice the effects of all sampled groupings)
        Grouping by grouping, how far each effect is centred, from 0 to 1, and then the units in
        which they are; see `effects`.
    Z : floats (rows, effects)
        What integrated effects multiply, where residuals are correlated.
    keys, constants : floats
        What the entries of each table depend on; see `correlation_tables.Table`.
    addresses : floats (tables,)
        Of the tables' kernels.
    directions : floats
        Matrices of the blocks of the point that `turned` names.
    covariances : ints (covariances, 3)
        Number of effects, and where `members` begins to say which parameters are the standard
        deviations, and then for each correlated block its size, its place in the point, the place
        in `etas`, and its members; the third number counts the blocks.
    members : ints
    effects : ints (groupings, 5)
        Groups, effects, place in the point, covariance, first form of the means or -1 where these
        are 0. A grouping stands behind those that its means take in.
    forms : ints (forms, 5)
        First those of the means. Length, place among the outputs, place of the offset in `columns`
        or -1, first instruction and number of instructions.
    instructions : ints (instructions, 5)
        Kind; parameter, grouping or form; effect; place in `indices`; place in `columns` or -1.
    indices : ints
    shape : ints (5,)
        Number of predictors and of rows that the kernel sees, further numbers in `stats`; form of
        the error variances; whether the likelihood is not a kernel's, but machine code that sees
        the whole program. Where residuals are correlated, the first three are the form of the mean,
        whether the series are Markov processes, and the number of entries of all tables.
    varies : ints (predictors,)
        Whether a predictor has a value for each row.
    terms : ints (terms,)
        Parameters that are the coefficients, where effects are integrated out.
    sizes, counts, parents, levels : ints
        See `elimination.Tree`; `levels` are the covariances of its levels.
    leaf, stratum, link_record, link_column, ..., pair_second : ints
        See `elimination.Records` and `normal.Coupling`.
    order, lengths, repeats, further : ints
        See `correlated.Rows`, which has `repeats` as counts.
    tables : ints (tables, 4)
        Numbers of parameters, of constants, of keys and of entries of the tables of correlations.
    members_of_tables : ints
        Their parameters, table by table.
    places : ints
        See `correlation_tables.Tables`.
    turned : ints (blocks, 2)
        Where a block of the point begins and how long it is, which is a matrix times what is
        sampled instead of `unit` times it.
    """

    origin: Floats
    unit: Floats
    numbers: Floats
    columns: Floats
    etas: Floats
    stats: Floats
    reference: Floats
    ZZ: Floats
    ZX: Floats
    Zy: Floats
    rows: Floats
    yy: Floats
    Xy: Floats
    XX: Floats
    link: Floats
    sum_y: Floats
    sum_X: Floats
    pair: Floats
    weights: Floats
    Z: Floats
    keys: Floats
    constants: Floats
    addresses: Floats
    directions: Floats
    covariances: Integers
    members: Integers
    effects: Integers
    forms: Integers
    instructions: Integers
    indices: Integers
    shape: Integers
    varies: Integers
    terms: Integers
    sizes: Integers
    counts: Integers
    parents: Integers
    levels: Integers
    leaf: Integers
    stratum: Integers
    link_record: Integers
    link_column: Integers
    sum_stratum: Integers
    sum_column: Integers
    pair_stratum: Integers
    pair_first: Integers
    pair_second: Integers
    order: Integers
    lengths: Integers
    repeats: Integers
    further: Integers
    tables: Integers
    members_of_tables: Integers
    places: Integers
    turned: Integers


FLOAT_FIELDS = 24
# Places of the arrays among the pointers. Of numpy's type: numba would compile what is called with
# a number of Python's again for every number.
(
    ORIGIN,
    UNIT,
    NUMBERS,
    COLUMNS,
    ETAS,
    STATS,
    REFERENCE,
    ZZ,
    ZX,
    ZY,
    ROWS,
    YY,
    XY,
    XX,
    LINK,
    SUM_Y,
    SUM_X,
    PAIR,
    WEIGHTS,
    Z,
    KEYS,
    CONSTANTS,
    ADDRESSES,
    DIRECTIONS,
    COVARIANCES,
    MEMBERS,
    EFFECTS,
    FORMS,
    INSTRUCTIONS,
    INDICES,
    SHAPE,
    VARIES,
    TERMS,
    SIZES,
    COUNTS,
    PARENTS,
    LEVELS,
    LEAF,
    STRATUM,
    LINK_RECORD,
    LINK_COLUMN,
    SUM_STRATUM,
    SUM_COLUMN,
    PAIR_STRATUM,
    PAIR_FIRST,
    PAIR_SECOND,
    ORDER,
    LENGTHS,
    REPEATS,
    FURTHER,
    TABLES,
    MEMBERS_OF_TABLES,
    PLACES,
    TURNED,
    NOISE,  # behind the program: where effects are drawn, or nothing
) = np.arange(len(Program._fields) + 1)


@njit
def rows_of(flat, width):
    """A flat array as a table of this many columns."""
    return flat.reshape((len(flat) // width, width))
