# Posteriors of classic meta-analyses by bayesmeta, for tests/test_classics.py.
#
#   Rscript tests/reference/make_bayesmeta.R PATH-OF-BAYESMETA tests/reference/bayesmeta.json
#
# PATH-OF-BAYESMETA: the unpacked sources of bayesmeta 3.4 (CRAN; GPL). They are read, not installed,
# so that only metafor, mvtnorm and numDeriv are needed. delta and epsilon, which say how finely the
# heterogeneity is divided, are a tenth of their defaults.
suppressMessages({ library(metafor); library(mvtnorm); library(numDeriv) })
args <- commandArgs(trailingOnly = TRUE)
source(file.path(args[1], "R", "bayesmeta.R"))
read <- function(name) { e <- new.env(); source(file.path(args[1], "data", paste0(name, ".R")), local = e); e[[name]] }

crins <- read("CrinsEtAl2014")
crins <- escalc(measure = "OR", ai = exp.AR.events, n1i = exp.total, ci = cont.AR.events, n2i = cont.total,
                slab = publication, data = crins)
crins <- crins[!is.na(crins$yi), ]
peto <- read("Peto1980")
peto <- escalc(measure = "OR", ai = treat.events, n1i = treat.cases, ci = control.events, n2i = control.cases,
               slab = publication, data = peto)
rubin <- read("Rubin1981"); snedecor <- read("SnedecorCochran"); cochran <- read("Cochran1954")
snedecor <- escalc(measure = "MN", mi = mean, sdi = sqrt(var), ni = n, slab = no, data = snedecor)
cochran <- data.frame(yi = cochran$mean, vi = cochran$se2, slab = cochran$observer)
data <- list(
  rubin = data.frame(y = rubin$effect, se = rubin$stderr, label = rubin$school),
  crins = data.frame(y = as.numeric(crins$yi), se = sqrt(crins$vi), label = crins$publication),
  peto = data.frame(y = as.numeric(peto$yi), se = sqrt(peto$vi), label = peto$publication),
  snedecor = data.frame(y = as.numeric(snedecor$yi), se = sqrt(snedecor$vi), label = snedecor$no),
  cochran = data.frame(y = cochran$yi, se = sqrt(cochran$vi), label = cochran$slab)
)
halfnormal <- function(s) function(t) dhalfnormal(t, scale = s)
halfcauchy <- function(s) function(t) dhalfcauchy(t, scale = s)
named <- c("uniform", "sqrt", "Jeffreys", "overallJeffreys", "BergerDeely", "conventional", "DuMouchel",
           "shrinkage", "I2")
flat <- c(NA, NA)
cases <- c(
  lapply(named, function(p) list("rubin", p, p, flat)),
  lapply(c("Jeffreys", "conventional", "DuMouchel", "I2"), function(p) list("snedecor", p, p, flat)),
  lapply(c("Jeffreys", "conventional", "shrinkage"), function(p) list("peto", p, p, flat)),
  list(
    list("rubin", "HalfNormal 5", halfnormal(5), c(0, 50)),
    list("crins", "HalfNormal 0.5", halfnormal(0.5), c(0, 4)),
    list("crins", "HalfCauchy 0.5", halfcauchy(0.5), flat),
    list("peto", "HalfNormal 0.5", halfnormal(0.5), flat),
    list("cochran", "HalfNormal 5", halfnormal(5), flat)
  )
)
number <- function(x) paste0("[", paste(ifelse(is.finite(x), formatC(x, digits = 12, format = "g"), "null"), collapse = ", "), "]")
one <- function(case) {
  d <- data[[case[[1]]]]
  b <- bayesmeta(y = d$y, sigma = d$se, labels = as.character(d$label), tau.prior = case[[3]], mu.prior = case[[4]],
                 interval.type = "central", delta = 1e-3, epsilon = 1e-5)
  s <- b$summary
  part <- function(column) number(s[c("mean", "sd", "median", "95% lower", "95% upper"), column])
  proper <- b$tau.prior.proper && all(is.finite(case[[4]]))
  paste0('{"data": "', case[[1]], '", "tau_prior": "', case[[2]], '", "mu_prior": ', number(case[[4]]),
    ',\n  "tau": ', part("tau"), ', "mu": ', part("mu"), ', "new": ', part("theta"),
    ',\n  "log_evidence": ', if (proper) formatC(log(b$marginal.likelihood), digits = 12, format = "g") else "null",
    ',\n  "theta_mean": ', number(b$theta["mean", ]), ', "theta_sd": ', number(b$theta["sd", ]), "}")
}
studies <- sapply(names(data), function(n) paste0('"', n, '": {"y": ', number(data[[n]]$y), ', "se": ', number(data[[n]]$se), "}"))
write(paste0('{"made_by": "bayesmeta 3.4, metafor ', packageVersion("metafor"), ', R ', getRversion(), '",\n"studies": {\n',
  paste(studies, collapse = ",\n"), "},\n\"posteriors\": [\n",
  paste(sapply(cases, one), collapse = ",\n"), "]}"), args[2])
