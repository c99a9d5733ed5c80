# Reference values for trials with repeated visits, written to trial.json.
# Run from the root of the repository: Rscript tests/reference/make_trial.R
# Debian packages: r-cran-nlme r-cran-jsonlite.
suppressMessages({library(nlme); library(jsonlite)})
options(contrasts = c("contr.treatment", "contr.poly"))
read <- function(n) read.csv(file.path("bayesmixed/datasets/data", paste0(n, ".csv")), stringsAsFactors = TRUE)
named <- function(x) as.list(x)
out <- list()

# Means and contrasts: REML, unstructured; the reference grid of emmeans puts baseline at its mean over rows.
d <- read("antidepressant"); d$arm <- relevel(d$arm, "placebo"); d$patient <- factor(d$patient)
d$w <- factor(d$week); d$visit <- as.integer(d$w)
m <- gls(change ~ w * arm + baseline * w, d, correlation = corSymm(form = ~visit | patient), weights = varIdent(form = ~1 | visit))
grid <- expand.grid(w = levels(d$w), arm = levels(d$arm), baseline = mean(d$baseline))
X <- model.matrix(~ w * arm + baseline * w, grid)[, names(coef(m))]
V <- vcov(m); place <- grid$arm == "placebo"; L <- X[!place, ] - X[place, ]
sds <- m$sigma * coef(m$modelStruct$varStruct, unconstrained = FALSE, allCoef = TRUE)[levels(factor(d$visit))]
P <- diag(4); P[lower.tri(P)] <- coef(m$modelStruct$corStruct, unconstrained = FALSE); P <- t(P); P[lower.tri(P)] <- t(P)[lower.tri(P)]
out$antidepressant_gls <- list(formula = "change ~ w * arm + baseline * w", method = "gls, REML, corSymm and varIdent by visit", baseline = mean(d$baseline), coef = as.numeric(coef(m)),
  grid = list(week = as.character(grid$w), arm = as.character(grid$arm), mean = as.numeric(X %*% coef(m)), se = sqrt(diag(X %*% V %*% t(X)))),
  difference = list(week = levels(d$w), mean = as.numeric(L %*% coef(m)), se = sqrt(diag(L %*% V %*% t(L)))), sd = as.numeric(sds), correlation = P)

# Conditional means of what is missing under each assumption (Wolbers et al. 2022), then ANCOVA at the last visit.
S <- diag(sds) %*% P %*% diag(sds)
people <- d[!duplicated(d$patient), ]
mu <- function(arm, i) { g <- data.frame(w = factor(levels(d$w), levels(d$w)), arm = factor(arm, levels(d$arm)), baseline = people$baseline[i])
  as.numeric(model.matrix(~ w * arm + baseline * w, g)[, names(coef(m))] %*% coef(m)) }
completed <- function(how) { t(sapply(seq_len(nrow(people)), function(i) {
  y <- rep(NA, 4); mine <- d[d$patient == people$patient[i], ]; y[mine$visit] <- mine$change
  last <- max(mine$visit); o <- which(!is.na(y)); a <- as.character(people$arm[i]); own <- mu(a, i); ref <- mu("placebo", i); mean <- own
  if (last < 4) { after <- (last + 1):4
    if (how == "jump") mean[after] <- ref[after]
    if (how == "copy increments") mean[after] <- own[last] + ref[after] - ref[last]
    if (how == "copy") mean <- ref
    if (how == "last mean") mean[after] <- own[last] }
  k <- which(is.na(y)); if (length(k)) y[k] <- mean[k] + S[k, o, drop = FALSE] %*% solve(S[o, o], y[o] - mean[o]); y })) }
ancova <- function(how) { people$y <- completed(how)[, 4]; f <- lm(y ~ arm + baseline, people); c(as.numeric(coef(f)["armdrug"])) }
hows <- c("mar", "jump", "copy increments", "copy", "last mean")
out$antidepressant_dropout <- list(method = "conditional means at the estimate of antidepressant_gls, then lm(y ~ arm + baseline) at week 6",
  estimate = as.list(setNames(sapply(hows, ancova), hows)),
  left_early = as.list(tapply(sapply(levels(d$patient), function(p) max(d$visit[d$patient == p]) < 4)[as.character(people$patient)], people$arm, mean)),
  published = list(source = "rbmi 1.5.2, vignettes CondMean_Inference (jackknife) and quickstart (Bayesian, Rubin's rules), jump to reference, week 6",
    conditional_mean = 2.126, se_jackknife = 0.858, bayesian_mean = 2.169, se_rubin = 1.120))

# Repeated-measures analysis of variance of complete cases.
wide <- function(d, y, id, time, arm) { w <- reshape(d[, c(y, id, time, arm)], idvar = c(id, arm), timevar = time, direction = "wide"); w[complete.cases(w), ] }
anovas <- function(w, arm) { Y <- as.matrix(w[, grep("\\.", names(w))]); w$arm <- w[[arm]]
  f <- lm(Y ~ arm, w); a <- anova(f, X = ~1, test = "Spherical"); q <- mauchly.test(f, X = ~1); h <- attr(a, "heading")
  one <- lm(Y ~ 1); b <- anova(one, X = ~1, test = "Spherical"); r <- mauchly.test(one, X = ~1)
  give <- function(a, q) list(table = lapply(as.list(as.data.frame(a)), as.numeric), rows = rownames(a), heading = attr(a, "heading"), W = as.numeric(q$statistic), W_p = q$p.value)
  list(n = nrow(w), between = give(a, q), one_group = give(b, r)) }
o <- read("orthodont"); o <- o[order(o$Subject, o$age), ]
out$orthodont_anova <- anovas(wide(o, "distance", "Subject", "age", "Sex"), "Sex")
out$antidepressant_anova <- anovas(wide(d, "change", "patient", "week", "arm"), "arm")
out$versions <- list(R = R.version.string, nlme = as.character(packageVersion("nlme")))
write(toJSON(out, auto_unbox = TRUE, digits = 10, pretty = TRUE, null = "null", na = "null"), "tests/reference/trial.json")
