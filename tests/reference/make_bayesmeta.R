# Posteriors of classic meta-analyses by bayesmeta, for tests/test_classics.py.
#
#   Rscript tests/reference/make_bayesmeta.R PATH-OF-BAYESMETA tests/reference/bayesmeta.json
#
# PATH-OF-BAYESMETA: the unpacked sources of bayesmeta 3.4 (CRAN; GPL). They are read, not installed,
# so that only metafor, mvtnorm and numDeriv are needed. delta and epsilon, which say how finely the
# heterogeneity is divided, are far below their defaults of 0.01 and 1e-4.
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
goralczyk <- read("GoralczykEtAl2011")
goralczyk <- escalc(measure = "OR", ai = exp.AR.events, n1i = exp.total, ci = cont.AR.events, n2i = cont.total,
                    slab = publication, data = goralczyk)
goralczyk <- goralczyk[!is.na(goralczyk$yi), ]
rubin <- read("Rubin1981"); snedecor <- read("SnedecorCochran"); cochran <- read("Cochran1954")
hinks <- read("HinksEtAl2010"); sidik <- read("SidikJonkman2007")
snedecor <- escalc(measure = "MN", mi = mean, sdi = sqrt(var), ni = n, slab = no, data = snedecor)
cochran <- data.frame(yi = cochran$mean, vi = cochran$se2, slab = cochran$observer)
hinks <- data.frame(yi = hinks$log.or, vi = hinks$log.or.se^2, slab = hinks$study)
sidik <- escalc(measure = "OR", ai = lihr.events, n1i = lihr.cases, ci = oihr.events, n2i = oihr.cases,
                slab = id, data = sidik)
data <- list(
  rubin = data.frame(y = rubin$effect, se = rubin$stderr, label = rubin$school),
  crins = data.frame(y = as.numeric(crins$yi), se = sqrt(crins$vi), label = crins$publication),
  peto = data.frame(y = as.numeric(peto$yi), se = sqrt(peto$vi), label = peto$publication),
  goralczyk = data.frame(y = as.numeric(goralczyk$yi), se = sqrt(goralczyk$vi), label = goralczyk$publication),
  snedecor = data.frame(y = as.numeric(snedecor$yi), se = sqrt(snedecor$vi), label = snedecor$no),
  cochran = data.frame(y = cochran$yi, se = sqrt(cochran$vi), label = cochran$slab),
  hinks = data.frame(y = hinks$yi, se = sqrt(hinks$vi), label = hinks$slab),
  sidik = data.frame(y = as.numeric(sidik$yi), se = sqrt(sidik$vi), label = sidik$id)
)
halfnormal <- function(s) function(t) dhalfnormal(t, scale = s)
halfcauchy <- function(s) function(t) dhalfcauchy(t, scale = s)
named <- c("uniform", "sqrt", "Jeffreys", "overallJeffreys", "BergerDeely", "conventional", "DuMouchel",
           "shrinkage", "I2")
flat <- c(NA, NA)
cases <- c(
  lapply(named, function(p) list("rubin", p, p, flat)),
  lapply(named, function(p) list("snedecor", p, p, flat)),
  lapply(c("Jeffreys", "conventional", "DuMouchel", "shrinkage", "I2"), function(p) list("peto", p, p, flat)),
  list(
    list("rubin", "HalfNormal 5", halfnormal(5), c(0, 50)),
    list("rubin", "HalfCauchy 25", halfcauchy(25), c(0, 50)),
    list("crins", "HalfNormal 0.5", halfnormal(0.5), c(0, 4)),
    list("crins", "HalfNormal 1", halfnormal(1), c(0, 4)),
    list("crins", "HalfCauchy 0.5", halfcauchy(0.5), flat),
    list("crins", "DuMouchel", "DuMouchel", flat),
    list("peto", "HalfNormal 0.5", halfnormal(0.5), flat),
    list("goralczyk", "HalfNormal 0.5", halfnormal(0.5), c(0, 4)),
    list("snedecor", "HalfNormal 50", halfnormal(50), flat),
    list("cochran", "HalfNormal 5", halfnormal(5), flat),
    list("hinks", "HalfNormal 0.5", halfnormal(0.5), c(0, 4)),
    list("sidik", "HalfNormal 0.5", halfnormal(0.5), c(0, 4))
  )
)
number <- function(x) paste0("[", paste(ifelse(is.finite(x), formatC(x, digits = 12, format = "g"), "null"), collapse = ", "), "]")
one <- function(case) {
  d <- data[[case[[1]]]]
  b <- bayesmeta(y = d$y, sigma = d$se, labels = as.character(d$label), tau.prior = case[[3]], mu.prior = case[[4]],
                 interval.type = "central", delta = 1e-5, epsilon = 1e-7)
  s <- b$summary
  part <- function(column) number(s[c("mean", "sd", "median", "95% lower", "95% upper"), column])
  short <- sapply(c("tau", "mu"), function(p) number(if (p == "tau") b$post.interval(tau.level = 0.95, method = "shortest") else b$post.interval(mu.level = 0.95, method = "shortest")))
  proper <- b$tau.prior.proper && all(is.finite(case[[4]]))
  paste0('{"data": "', case[[1]], '", "tau_prior": "', case[[2]], '", "mu_prior": ', number(case[[4]]),
    ',\n  "tau": ', part("tau"), ', "mu": ', part("mu"), ', "new": ', part("theta"),
    ',\n  "shortest": {"tau": ', short["tau"], ', "mu": ', short["mu"], "}",
    ',\n  "log_evidence": ', if (proper) formatC(log(b$marginal.likelihood), digits = 12, format = "g") else "null",
    ',\n  "theta_mean": ', number(b$theta["mean", ]), ', "theta_sd": ', number(b$theta["sd", ]), "}")
}
studies <- sapply(names(data), function(n) paste0('"', n, '": {"y": ', number(data[[n]]$y), ', "se": ', number(data[[n]]$se), "}"))
write(paste0('{"made_by": "bayesmeta 3.4, metafor ', packageVersion("metafor"), ', R ', getRversion(), '",\n"studies": {\n',
  paste(studies, collapse = ",\n"), "},\n\"posteriors\": [\n",
  paste(sapply(cases, one), collapse = ",\n"), "]}"), args[2])
